"""A seeded log of a social platform, of any size, for trying things out."""
