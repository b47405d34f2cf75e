"""Training: by a configuration, and fine-tuning on a user's own scenes and labels."""
