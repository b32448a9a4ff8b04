//! Nothing to call: `tests/` holds the workspace's dependency graph against the design.
