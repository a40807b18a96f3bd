//! `simulate`: scenarios in, reports out, a JSON object a line.

#![forbid(unsafe_code)]

use std::{
    fs,
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use hotpath_simulation::{Costs, OutOfBounds, Recorded, Report, Scenario, Traffic, simulate};
use serde::{Serialize, de::DeserializeOwned};

/// `EX_USAGE` of sysexits: the command line or a file is wrong.
const USAGE: u8 = 64;

/// Reads scenarios from standard input, a JSON object a line, and writes the report of each as a line (docs/scale.md).
#[derive(Parser)]
#[command(name = "simulate", version)]
struct Args {
    /// Measured costs; those that come with the program if left out.
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,
    /// Recorded traffic in place of every scenario's own, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{place}: {path}: {problem}")]
    Json { place: String, path: String, problem: String },
    #[error("{place}: {problem}")]
    Bounds { place: String, problem: OutOfBounds },
    #[error(transparent)]
    Pipe(#[from] io::Error),
}

/// A report, and how long it took to find out.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    report: Report,
    took_s: f64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Pipe(error)) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("simulate: {failure}");
            ExitCode::from(USAGE)
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let costs = match &args.costs {
        Some(path) => {
            let place = path.display().to_string();
            let costs: Costs = parse(&read(path)?, &place)?;
            costs.check().map_err(|problem| Failure::Bounds { place, problem })?;
            costs
        }
        None => Costs::default_costs(),
    };
    let recorded = args.traffic.as_deref().map(recorded).transpose()?;
    let mut out = io::stdout().lock();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("line {}", number + 1);
        let mut scenario: Scenario = parse(&line, &place)?;
        if let Some(recorded) = &recorded {
            scenario.traffic = vec![Traffic::Recorded(recorded.clone())];
        }
        scenario.check().map_err(|problem| Failure::Bounds { place, problem })?;
        let began = Instant::now();
        let report = simulate(&scenario, &costs);
        let line = Line { report, took_s: began.elapsed().as_secs_f64() };
        writeln!(out, "{}", serde_json::to_string(&line).map_err(io::Error::from)?)?;
        out.flush()?; // whoever reads shows how far it is
    }
    Ok(())
}

fn recorded(path: &Path) -> Result<Vec<Recorded>, Failure> {
    let text = read(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| parse(line, &format!("{}:{}", path.display(), number + 1))).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::File(path.to_owned(), error))
}

fn parse<T: DeserializeOwned>(text: &str, place: &str) -> Result<T, Failure> {
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| Failure::Json {
        place: place.to_owned(),
        path: error.path().to_string(),
        problem: error.inner().to_string(),
    })
}
