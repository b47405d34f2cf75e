"""Audit splits for leakage between parts: `geores audit`."""

from geores.audit.audit import audit_split
from geores.audit.report import AuditReport
from geores.options import AuditOptions

__all__ = ['AuditOptions', 'AuditReport', 'audit_split']
