//! The activation store in a SQLite file.
