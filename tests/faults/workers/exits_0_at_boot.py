"""Ends at once and says that all is well."""
