//! W3C Trace Context, version 00: what a caller says of its trace.

use opentelemetry::trace::{SpanId, TraceId};

/// A caller's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The trace that it is a part of.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
}

const SAMPLED: u8 = 1;

/// The span that a `traceparent` names, if its trace is to be recorded. It allocates nothing: most are not.
pub fn sampled(traceparent: &str) -> Option<Parent> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lengths = [version.len(), trace.len(), span.len(), flags.len()];
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if parts.next().is_some() || version != "00" || lengths != [2, 32, 16, 2] {
        return None;
    }
    if ![trace, span, flags].iter().all(|part| part.bytes().all(is_lower_hex)) {
        return None;
    }
    let (trace_id, span_id) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let is_sampled = u8::from_str_radix(flags, 16).ok()? & SAMPLED != 0;
    let is_valid = trace_id != TraceId::INVALID && span_id != SpanId::INVALID;
    (is_sampled && is_valid).then_some(Parent { trace_id, span_id })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_sampled_one_is_read() {
        let parent = sampled(GOOD).expect("it is sampled");
        assert_eq!(parent.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parent.span_id.to_string(), "00f067aa0ba902b7");
        assert!(sampled(&GOOD.replace("-01", "-03")).is_some(), "flags that are not known yet");
    }

    #[test]
    fn all_others_are_none() {
        let long = format!("{GOOD}-00");
        for other in [
            "",
            "00",
            &GOOD.replace("-01", "-00"),
            &GOOD.replacen("00", "01", 1),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace("4bf9", "4bfg"),
            &GOOD.replace("4bf9", "+bf9"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD[..GOOD.len() - 1],
            &long,
            "00-ä",
        ] {
            assert_eq!(sampled(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in ".{0,80}") {
            let _ = sampled(&text);
        }
    }
}
