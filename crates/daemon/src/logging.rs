//! Logs, to standard error, where systemd's journal or a terminal takes them.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::debug_fn;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A sentence, for people.
    #[default]
    Text,
    /// An object with the sentence as `message`, and what it is about as fields.
    Json,
}

/// Fields of ours, whose values are in the sentence.
const IN_THE_SENTENCE: [&str; 8] =
    ["agent", "device", "event", "farm", "job", "peer", "role", "webhook"];

/// Starts logging. `filter` is a level (`info`) or directives (`warn,grange_agent=debug`);
/// `RUST_LOG` goes before it. Under systemd, which stamps each line itself, text has no time.
pub fn init(filter: &str, format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first one's.
    let _ = match format {
        Format::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
        Format::Text => {
            let text = builder.with_target(false).with_ansi(std::io::stderr().is_terminal());
            let text = text.fmt_fields(debug_fn(|writer, field, value| match field.name() {
                "message" => write!(writer, "{value:?}"),
                said if IN_THE_SENTENCE.contains(&said) => Ok(()),
                other => write!(writer, " {other}={value:?}"),
            }));
            if std::env::var_os("JOURNAL_STREAM").is_some() {
                text.without_time().try_init()
            } else {
                text.try_init()
            }
        }
    };
}
