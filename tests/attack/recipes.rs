//! A recipe's script, in the sandbox.
