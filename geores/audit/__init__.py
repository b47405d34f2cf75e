"""`geores audit`: whether a split can be trusted."""

from geores.audit.audit import AuditOptions, audit_split
from geores.audit.report import AuditReport

__all__ = ['AuditOptions', 'AuditReport', 'audit_split']
