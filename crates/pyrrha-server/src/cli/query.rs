//! `pyrrha query …`: asks a running server.

pub(super) mod client;
mod print;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use client::Client;

use super::output::{self, CommandError};

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Evaluates an expression at one time.
    Instant {
        #[command(flatten)]
        server: Server,
        /// Evaluation time, Unix seconds or RFC 3339 [default: now].
        #[arg(long, allow_hyphen_values = true)]
        time: Option<String>,
        /// The expression.
        #[arg(allow_hyphen_values = true)]
        expr: String,
    },
    /// Evaluates an expression at many times.
    Range {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        span: Span,
        /// The expression.
        #[arg(allow_hyphen_values = true)]
        expr: String,
    },
    /// Evaluates an expression and shows what each operator did.
    Explain {
        #[command(flatten)]
        server: Server,
        /// Evaluation time of an instant query [default: now].
        #[arg(long, allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
        time: Option<String>,
        #[command(flatten)]
        span: Span,
        /// The expression.
        #[arg(allow_hyphen_values = true)]
        expr: String,
    },
}

/// Which server, and how to tell what it says.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// The server.
    #[arg(long, env = "PYRRHA_URL", default_value = "http://127.0.0.1:9009")]
    url: String,
    /// The tenant; without one the server's default.
    #[arg(long, env = "PYRRHA_TENANT")]
    tenant: Option<String>,
    /// Deadline of the query, such as 30s.
    #[arg(long)]
    timeout: Option<String>,
    /// Shape of the output.
    #[arg(short, long, value_enum, default_value = "promql")]
    output: Output,
}

/// When a range query is evaluated.
#[derive(Debug, Args)]
pub(super) struct Span {
    /// First time, Unix seconds or RFC 3339 [default: an hour before the end].
    #[arg(long, allow_hyphen_values = true)]
    start: Option<String>,
    /// Last time [default: now].
    #[arg(long, allow_hyphen_values = true)]
    end: Option<String>,
    /// Distance of the times, seconds or a duration [default: the 250th part, whole seconds].
    #[arg(long, allow_hyphen_values = true)]
    step: Option<String>,
}

/// Shape of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Like promtool's.
    Promql,
    /// The answer's data as JSON.
    Json,
}

pub(super) fn run(command: Command) -> ExitCode {
    output::run(|out| {
        let text = ask(command).map_err(CommandError::new)?;
        out.write_all(text.as_bytes())?;
        Ok(true)
    })
}

fn ask(command: Command) -> Result<String, String> {
    let explain = matches!(command, Command::Explain { .. });
    let (server, path, expr, mut parameters) = match command {
        Command::Instant { server, time, expr } => (server, "query", expr, at(time)),
        Command::Range { server, span, expr } => (server, "query_range", expr, between(span)?),
        Command::Explain { server, time, span, expr } => {
            let range = span.start.is_some() || span.end.is_some() || span.step.is_some();
            let parameters = if range { between(span)? } else { at(time) };
            (server, "query_explain", expr, parameters)
        }
    };
    parameters.push(("query", expr));
    parameters.extend(server.timeout.map(|t| ("timeout", t)));
    let client = Client::new(&server.url, server.tenant.as_deref())?;
    let answer = client.post(&format!("api/v1/{path}"), &parameters)?;
    tell(&answer, explain, server.output)
}

fn at(time: Option<String>) -> Vec<(&'static str, String)> {
    time.map(|t| ("time", t)).into_iter().collect()
}

fn between(span: Span) -> Result<Vec<(&'static str, String)>, String> {
    let time = |flag: &str, text: &str| match crate::http::params::parse_time(text) {
        Ok(ms) => Ok(ms as f64 / 1000.0),
        Err(error) => Err(format!("--{flag}: {error}")),
    };
    let end = match &span.end {
        Some(end) => time("end", end)?,
        None => pyrrha_env::Clock::now_ms(&pyrrha_env::SystemClock::new()) as f64 / 1000.0,
    };
    let start = match &span.start {
        Some(start) => time("start", start)?,
        None => end - 3600.0,
    };
    let step = span.step.unwrap_or_else(|| ((end - start) / 250.0).floor().max(1.0).to_string());
    Ok(vec![("start", start.to_string()), ("end", end.to_string()), ("step", step)])
}

/// What the answer says, as text.
fn tell(answer: &Value, explain: bool, output: Output) -> Result<String, String> {
    if answer["status"] != "success" {
        let text = |key: &str| answer[key].as_str().unwrap_or("unknown").to_owned();
        return Err(format!("the server refuses: {}: {}", text("errorType"), text("error")));
    }
    for (key, name) in [("warnings", "warning"), ("infos", "info")] {
        for text in answer[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
            eprintln!("{name}: {text}");
        }
    }
    let data = &answer["data"];
    let text = match (output, explain) {
        (Output::Json, true) => format!("{:#}\n", data["explain"]),
        (Output::Json, false) => format!("{data:#}\n"),
        (Output::Promql, true) => print::plan(&data["explain"]),
        (Output::Promql, false) => print::result(data),
    };
    Ok(text)
}
