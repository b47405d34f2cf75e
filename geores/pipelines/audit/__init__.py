"""`geores audit`: whether a split can be trusted."""

from geores.pipelines.audit.audit import AuditOptions, audit_split
from geores.pipelines.audit.report import AuditReport

__all__ = ['AuditOptions', 'AuditReport', 'audit_split']
