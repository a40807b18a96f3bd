//! The service from outside its library: over gRPC, on ports of its own, with the real bundle and ONNX Runtime.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test's panic is its failure")]

mod cases;
mod classify;
mod embed;
mod error_table;
mod faults;
mod formats;
mod generation;
mod golden;
mod invariance;
mod limits;
mod models;
mod operations;
mod overload;
mod process;
mod processors;
mod revisions;
mod sessions;
mod shutdown;
mod socket;
mod support;
mod traces;
