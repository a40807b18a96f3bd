//! Texts that must parse: JSON Schemas checked, tried out in a process of their own, compiled, and followed.
//!
//! | module | job |
//! |---|---|
//! | [`schema`], [`pattern`] | what a schema asks for, keyword by keyword, and what of it is refused |
//! | [`compile`] | schemas as parsers; the only module that follows texts |
//! | [`walk`] | a dry run, so that what fails in the middle of a text fails before it |
//! | [`worker`], [`protocol`] | the process in which both are done first, and what is said to it |
//! | [`workers`], [`cache`] | how many there are, and what is known already |
//! | [`service`] | formats for requests, and whose turn it is |
//!
//! Must not depend on gRPC or on what a bundle is. Nothing else in the workspace knows llguidance.

#![forbid(unsafe_code)]

mod cache;
mod compile;
mod pattern;
mod protocol;
mod schema;
mod service;
#[cfg(test)]
mod tests;
mod walk;
pub mod worker;
mod workers;

pub use schema::Refusal;
pub use service::{Failure, Formats, Noted, Observer, Service, Settings};
pub use workers::SUBCOMMAND;
