"""Raw tables: readers, row-level faults, quarantine."""
