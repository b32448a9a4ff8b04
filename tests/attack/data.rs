//! A data folder that lost a half, or that others may read and write.
