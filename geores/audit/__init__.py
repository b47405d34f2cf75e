"""Audit splits for leakage between parts: `geores audit`."""

from geores.audit.audit import AuditReport, audit_split
from geores.options import AuditOptions

__all__ = ['AuditOptions', 'AuditReport', 'audit_split']
