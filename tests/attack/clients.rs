//! Clients of the registry and of the mirror.
