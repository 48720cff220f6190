//! `weir export`: experiments as sections of a file, and outcomes as lines.

use std::io::Write as _;

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use super::admin_client::escaped;
use super::console::Console;
use super::fault::Fault;
use super::{Connection, complete, experiment};

#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// An experiment as a section of the configuration file, with the weights in force
    Experiment {
        /// Name of the experiment
        #[arg(add = ArgValueCandidates::new(complete::experiments))]
        experiment: String,
        #[command(flatten)]
        gateway: Connection,
    },
    /// Stored outcomes, newest first: a line of JSON each, or CSV
    Outcomes(OutcomesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OutcomesArgs {
    /// Comma-separated, with a line of names first
    #[arg(long)]
    csv: bool,
    /// Only of this route
    #[arg(long, add = ArgValueCandidates::new(complete::routes))]
    route: Option<String>,
    /// Only of this experiment
    #[arg(long, add = ArgValueCandidates::new(complete::experiments))]
    experiment: Option<String>,
    /// Only of this assigned variant
    #[arg(long)]
    variant: Option<String>,
    /// Only with this outcome, or failed
    #[arg(long)]
    outcome: Option<String>,
    /// Only those that took longer, such as 500ms
    #[arg(long, value_name = "DURATION")]
    slower: Option<String>,
    /// Only from here on: a duration such as 2h, or a time
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    #[command(flatten)]
    gateway: Connection,
}

/// Does what is asked.
pub(crate) fn obey(command: ExportCommand, console: &mut Console) -> Result<(), Fault> {
    match command {
        ExportCommand::Experiment { experiment, gateway } => {
            experiment::export(&gateway.client()?, &experiment, console)
        }
        ExportCommand::Outcomes(args) => outcomes(args),
    }
}

/// Passes the answer on as it comes, to the end or to where it breaks.
fn outcomes(args: OutcomesArgs) -> Result<(), Fault> {
    let OutcomesArgs { csv, route, experiment, variant, outcome, slower, since, gateway } = args;
    let filters: String = [
        ("route", route),
        ("experiment", experiment),
        ("variant", variant),
        ("outcome", outcome),
        ("slower", slower),
        ("since", since),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!("&{name}={}", escaped(&value?))))
    .collect();
    let format = if csv { "csv" } else { "jsonl" };
    let path = format!("/export/outcomes?format={format}{filters}");
    let mut out = std::io::stdout().lock();
    gateway.client()?.pass_on(&path, "export outcomes", &mut |piece| {
        out.write_all(piece).and_then(|()| out.flush())
    })
}
