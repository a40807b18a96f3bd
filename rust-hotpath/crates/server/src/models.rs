//! The models of this process: what each serves now, and what keeps that so. Each module uses those above it:
//!
//! | module | job |
//! |---|---|
//! | [`source`], [`texts`], [`pulse`], [`sessions`], `golden` | what tasks have in common |
//! | [`tasks`] | what models do, one module for each task |
//! | [`serving`] | one revision of a model, loaded |
//! | [`registry`], [`health`] | the models, where each stands, and who is told |
//! | [`load`] | from a promoted revision to one that may serve |
//! | [`supervise`] | follows what is promoted, and judges whether it works |
//!
//! A [`Model`] is looked at by requests and changed by its [`supervise::Supervisor`] alone.

mod backoff;
mod golden;
pub mod health;
pub mod load;
pub mod pulse;
pub mod registry;
pub mod serving;
pub mod sessions;
pub mod source;
pub mod supervise;
pub mod tasks;
pub mod texts;

pub use registry::{Model, Models, Now};
