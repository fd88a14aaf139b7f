"""Pages for people: one template, one stylesheet, charts."""
