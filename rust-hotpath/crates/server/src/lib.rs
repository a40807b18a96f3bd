//! The hot path's service: gRPC in, vectors, continuations and scores out.
//!
//! | module | job |
//! |---|---|
//! | [`args`], [`config`] | settings, and their checks |
//! | [`program`] | the subcommands |
//! | [`serve`], [`listeners`], [`signals`] | the life of the process: wiring, and drain |
//! | [`call`] | what every call has: deadline, span, count |
//! | [`inference`], [`model_service`] | the services |
//! | [`requests`], [`tokenization`] | what a request must be, and its ids |
//! | [`models`] | what is served, what is promoted, what works |
//! | [`error`] | what can go wrong, and its form in gRPC |
//! | [`traces`] | where the time of calls went, for who asks |
//! | [`metrics`], [`exposition`], [`metrics_http`], [`telemetry`], [`healthcheck`] | what operators see |
//!
//! Knows no key, no plan and no price: who may call is settled before a request gets here.

#![forbid(unsafe_code)]

pub mod args;
pub mod call;
pub mod config;
pub mod error;
pub mod exposition;
pub mod healthcheck;
pub mod inference;
pub mod listeners;
pub mod metrics;
pub mod metrics_http;
pub mod model_service;
pub mod models;
pub mod program;
pub mod requests;
pub mod serve;
pub mod signals;
pub mod telemetry;
pub mod tokenization;
pub mod traces;
