"""Audit splits for leakage between parts: `geores audit`."""

from geores.audit.audit import AuditOptions, audit_split
from geores.audit.report import AuditReport

__all__ = ['AuditOptions', 'AuditReport', 'audit_split']
