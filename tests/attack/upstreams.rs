//! Registries and git servers that lie, redirect and ask for what is not theirs.
