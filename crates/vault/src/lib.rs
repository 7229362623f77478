//! What must not be lost or overdrawn: durable files, checksums, locks, memory budgets, and errors that say whose
//! fault they are.
//!
//! Everything that Microtome writes goes through [`disk`]: to a temporary name, synced, renamed, folder synced, so that
//! a file is whole or absent after a kill or a power cut. `clippy.toml` forbids the writing functions of `std::fs`
//! everywhere else. Vault knows no image, no tensor and no HTTP.
//!
//! Reading order: [`error`], [`disk`], [`checksum`], [`lock`], [`budget`], [`foreign`].

pub mod budget;
pub mod checksum;
pub mod clock;
pub mod disk;
pub mod error;
pub mod foreign;
pub mod lock;

pub use budget::Budget;
pub use error::{Error, Fault, Result};
