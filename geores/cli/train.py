"""`geores train`: fit a task as a YAML file says."""


def train(args: list[str]) -> None:
    """Fit a task as a configuration says.

    Args:
        args: As given after `geores train`, untouched.

    Raises:
        UsageError: The configuration or what it names is not usable.
    """
    from geores.pipelines.train import train as fit  # Lightning takes seconds to import.

    fit(args)
