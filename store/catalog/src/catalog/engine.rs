//! The database engine, named here alone.

/// SQLite.
pub(super) type Engine = sqlx::Sqlite;
/// A connection of the engine.
pub(super) type Connection = <Engine as sqlx::Database>::Connection;
