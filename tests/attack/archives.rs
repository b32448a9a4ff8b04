//! Archives, imports and documents that a stranger sends.
