//! The two forms in which metrics are written, and which one a scraper asks for.

/// A form of the same metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own text, which everybody reads.
    Text,
    /// OpenMetrics, for those who ask for it.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// What an `Accept` header prefers: OpenMetrics only if it is named, and no less wanted than text.
    #[must_use]
    pub fn asked_for(accept: &str) -> Self {
        let weight = |matches: fn(&str) -> bool| {
            let ranges = accept.split(',').filter(|range| matches(range.split(';').next().unwrap_or_default().trim()));
            ranges.map(quality).fold(0.0, f32::max)
        };
        let open = weight(|name| name.eq_ignore_ascii_case(OPEN_METRICS));
        let text = weight(|name| ["text/plain", "text/*"].iter().any(|plain| name.eq_ignore_ascii_case(plain)));
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// As the reply says it.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes what is in OpenMetrics in this form. Text names each counter with its `_total`, knows no infos and no units,
    /// has no examples and no end mark.
    #[must_use]
    pub fn write(self, open_metrics: String) -> String {
        if self == Self::OpenMetrics {
            return open_metrics;
        }
        let (mut text, mut help) = (String::with_capacity(open_metrics.len()), None);
        for line in open_metrics.lines() {
            let mut words = line.splitn(4, ' ');
            match (words.next(), words.next(), words.next(), words.next()) {
                (Some("#"), Some("HELP"), Some(_), Some(words)) => help = Some(words),
                (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                    let (suffix, kind) = match kind {
                        "counter" => ("_total", "counter"),
                        "info" => ("_info", "gauge"),
                        other => ("", other),
                    };
                    if let Some(help) = help.take() {
                        text += &format!("# HELP {name}{suffix} {help}\n");
                    }
                    text += &format!("# TYPE {name}{suffix} {kind}\n");
                }
                (Some("#"), ..) => (),
                _ => text += &format!("{}\n", without_example(line)),
            }
        }
        text
    }
}

/// A sample without the trace that is an example of it.
fn without_example(line: &str) -> &str {
    match line.rsplit_once(" # {") {
        // Not within a label.
        Some((sample, _)) if sample.matches('"').count().is_multiple_of(2) => sample,
        _ => line,
    }
}

/// The weight of one of the header's ranges.
fn quality(range: &str) -> f32 {
    let parameters = range.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='));
    let weight = parameters.filter(|(name, _)| name.eq_ignore_ascii_case("q")).map(|(_, value)| value.parse()).next();
    weight.map_or(1.0, |weight| weight.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2";
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            (prometheus, Format::OpenMetrics),
            ("text/plain, application/openmetrics-text;q=0.9", Format::Text),
            ("application/openmetrics-text;q=0, */*", Format::Text),
            ("application/openmetrics-text;q=much", Format::Text),
        ] {
            assert_eq!(Format::asked_for(accept), format, "{accept}");
        }
    }

    #[test]
    fn text_says_the_same_in_its_own_words() {
        let open = "# HELP a Some of it.\n# TYPE a counter\n# UNIT a seconds\na_total{b=\"# c\"} 1\n\
                    # HELP d What runs.\n# TYPE d info\nd_info{e=\"f\"} 1\n\
                    # HELP g Times.\n# TYPE g histogram\ng_sum 1.5\n\
                    g_bucket{le=\"2.0\"} 1 # {trace_id=\"4bf9\"} 1.5\ng_bucket{b=\" # {\",le=\"3.0\"} 2\n# EOF\n";
        let text = "# HELP a_total Some of it.\n# TYPE a_total counter\na_total{b=\"# c\"} 1\n\
                    # HELP d_info What runs.\n# TYPE d_info gauge\nd_info{e=\"f\"} 1\n\
                    # HELP g Times.\n# TYPE g histogram\ng_sum 1.5\n\
                    g_bucket{le=\"2.0\"} 1\ng_bucket{b=\" # {\",le=\"3.0\"} 2\n";
        assert_eq!(Format::Text.write(open.to_owned()), text);
        assert_eq!(Format::OpenMetrics.write(open.to_owned()), open);
    }
}
