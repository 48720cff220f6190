//! The `weir` command: its arguments, and which file answers which command.
//!
//! Commands that run here (`serve`, `check`, `schema`) are in `local`, `completions` in `complete`, and
//! `vectors` is by itself; all others talk to a running gateway through `admin_client` and use nothing but the
//! admin API, so whatever the command can do, a script can do too. Nothing is printed but through
//! `Console`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::ArgValueCandidates;
use policies::Role;
use serde_json::{Map, Value};

mod assign;
mod audit;
mod complete;
mod export;
mod experiment;
mod history;
mod keys;
mod results;
mod shadow;
pub(crate) mod local;
mod split;
mod status;
mod vectors;
mod webhooks;
mod weights;
pub(crate) mod admin_client;
pub(crate) mod console;
pub(crate) mod fault;
pub(crate) mod ramp;
pub(crate) mod reading;
pub(crate) mod table;
mod terminal;
mod top;
pub(crate) mod words;

use admin_client::{AdminClient, Token};
use console::Console;
use fault::{Exit, Fault};

/// Splits inference traffic between models, and measures what comes of it.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 78 bad configuration.\n\
                        Start with `weir demo`: it needs nothing and shows everything.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it run: models, gateway and load in one process, on this machine only
    Demo(DemoArgs),
    /// Run the gateway
    Serve {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Check the configuration: the same verdict as start and reload
    Check {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        output: Output,
    },
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// The whole gateway on one screen
    Status {
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// What happens now: a live view of routes, variants, rates, failures and latencies
    #[command(
        after_help = "Keys: arrows and Enter open a route, an experiment, a variant; ? shows all \
                            of them, q quits.\nWithout a terminal it prints one table and ends."
    )]
    Top(TopArgs),
    /// Show an experiment's split, or change it
    #[command(
        after_help = "Without weights, on a terminal: the split is shown, and keys move it. Nothing is \
                            changed before Enter confirms it.\nWeights are relative; a variant that is not \
                            named keeps its weight, and 0 drains it.\nThe answer comes when the change is in \
                            force."
    )]
    Split(SplitArgs),
    /// Every revision of an experiment, newest first
    History {
        /// Name of the experiment
        #[arg(add = ArgValueCandidates::new(complete::experiments))]
        experiment: String,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Go back to the revision before the last change, or to an earlier one
    Undo {
        /// Name of the experiment
        #[arg(add = ArgValueCandidates::new(complete::experiments))]
        experiment: String,
        /// Revision to go back to [default: the one before the last change]
        #[arg(long, value_name = "REV", value_parser = revision)]
        #[arg(add = ArgValueCandidates::new(complete::revisions))]
        to: Option<u64>,
        /// Why, for the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Kill switch: all traffic back to the route's backend, at once
    Stop {
        /// Name of the experiment
        #[arg(add = ArgValueCandidates::new(complete::experiments))]
        experiment: String,
        /// Why, for the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Make an experiment beside the file, or end one
    #[command(subcommand)]
    Experiment(experiment::ExperimentCommand),
    /// Write out what the gateway knows
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Who did what, from where and why; and whether the log of it is whole
    Audit(audit::AuditArgs),
    /// Let an experiment's shares move by themselves, on evidence
    #[command(subcommand)]
    Ramp(RampCommand),
    /// Whom decisions are told: how each stands, and a test
    #[command(subcommand)]
    Webhook(WebhookCommand),
    /// What each variant did, against control: verdict first, then the numbers
    #[command(after_help = "Every interval holds however often you look. Revisions are compared \
                            each by itself.")]
    Results(ResultsArgs),
    /// Copies beside what clients got: may what is shadowed replace what serves?
    #[command(subcommand)]
    Shadow(shadow::ShadowCommand),
    /// Which variant a unit gets, and why
    Assign {
        /// Name of the experiment
        #[arg(add = ArgValueCandidates::new(complete::experiments))]
        experiment: String,
        /// The unit: a user id, or whatever the experiment's `unit` names
        unit: String,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Evaluate a file of statistical test vectors with this program's own functions
    #[command(after_help = "A line for each case that fails, then how many passed and failed; \
                            exit code 1 if any fails.")]
    Vectors {
        /// The file, as JSON
        file: PathBuf,
    },
    /// Print a completion script, for your shell to load
    #[command(
        after_help = "bash: source <(weir completions bash)\nzsh:  source <(weir completions zsh), after \
                            compinit\nfish: weir completions fish | source\nIt asks the gateway that WEIR_ADMIN \
                            and WEIR_TOKEN name for experiments, variants and routes."
    )]
    Completions {
        /// Name of the shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key; it is shown once
    Create(KeyCreateArgs),
    /// The keys that exist, without their secrets
    List {
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Make a key useless, everywhere within seconds
    Revoke {
        /// Id of the key, as `weir key list` shows it
        #[arg(add = ArgValueCandidates::new(complete::keys))]
        id: String,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum WebhookCommand {
    /// Every webhook: what waits for it, and what it met last
    List {
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Send a test now; fails if the receiver does not take it
    Test {
        /// Name of the webhook, as `weir webhook list` shows it
        #[arg(add = ArgValueCandidates::new(complete::webhooks))]
        name: String,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
enum RampCommand {
    /// Begin: a small share first, more as the evidence grows, back to nothing if it shows harm
    Start(Box<RampStartArgs>),
    /// Where it stands: step, share, evidence of every guardrail, decisions
    Status {
        /// Name of the experiment
        #[arg(add = ArgValueCandidates::new(complete::experiments))]
        experiment: String,
        #[command(flatten)]
        gateway: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Freeze the share; a breach still rolls back
    Pause(RampArgs),
    /// Go on after a pause or a hold
    Resume(RampArgs),
    /// End it: no traffic to the variant
    Abort(RampArgs),
    /// End it: all traffic to the variant, whatever the evidence says
    Promote(RampPromoteArgs),
}

#[derive(Debug, Args)]
struct RampStartArgs {
    /// The variant to ramp [default: the only one beside control]
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::judged_variants))]
    variant: Option<String>,
    /// Steps, guardrails and the rest, as JSON [default: steps of 1, 5, 25 and 50 %]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Begin only if this shadow of the same backend has passed
    #[arg(long, value_name = "NAME")]
    shadow: Option<String>,
    /// Forget the evidence of an earlier ramp of the same backend
    #[arg(long)]
    afresh: bool,
    #[command(flatten)]
    bandit: BanditArgs,
    #[command(flatten)]
    of: RampArgs,
}

/// Shares that follow what is known, in place of steps.
#[derive(Debug, Args)]
struct BanditArgs {
    /// `steps`: grow while guardrails hold; `bandit`: whoever is likelier to be best gets more
    /// [default: steps]
    #[arg(long, value_name = "MODE", value_parser = ["steps", "bandit"])]
    mode: Option<String>,
    /// What the best variant is best at: failed, latency_p95, feedback:NAME, ...
    #[arg(long, value_name = "METRIC", help_heading = "Bandit")]
    metric: Option<String>,
    /// Which way feedback is better
    #[arg(long, value_name = "WAY", value_parser = ["higher", "lower"], help_heading = "Bandit")]
    better: Option<String>,
    /// Least time from move to move [default: 5m]
    #[arg(long, value_name = "DURATION", help_heading = "Bandit")]
    period: Option<String>,
    /// What every variant gets at least, a fraction [default: 0.05]
    #[arg(long, value_name = "SHARE", help_heading = "Bandit")]
    floor: Option<f64>,
    /// What part of what is known is forgotten in a day [default: 0]
    #[arg(long, value_name = "PART", help_heading = "Bandit")]
    decay: Option<f64>,
    /// Variant that takes part beside control; again for more [default: all]
    #[arg(long = "arm", value_name = "NAME", help_heading = "Bandit")]
    #[arg(add = ArgValueCandidates::new(complete::judged_variants))]
    arms: Vec<String>,
}

#[derive(Debug, Args)]
struct RampPromoteArgs {
    /// Of a bandit with several variants: the one that is promoted
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::judged_variants))]
    variant: Option<String>,
    #[command(flatten)]
    of: RampArgs,
}

#[derive(Debug, Args)]
struct RampArgs {
    /// Name of the experiment
    #[arg(add = ArgValueCandidates::new(complete::experiments))]
    experiment: String,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    gateway: Connection,
    #[command(flatten)]
    output: Output,
}

/// Which configuration file.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "weir.toml")]
    config: PathBuf,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Args)]
struct Output {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Where the gateway's admin API is, and who asks.
#[derive(Debug, Args)]
struct Connection {
    /// The gateway's admin address; `https` unless it is on this machine
    #[arg(long, env = "WEIR_ADMIN", value_name = "URL", default_value = admin_client::DEFAULT_URL)]
    #[arg(help_heading = "Gateway")]
    admin: String,
    /// A key whose role allows it; better in the environment, where other users cannot see it
    #[arg(long, env = "WEIR_TOKEN", value_name = "KEY", hide_env_values = true)]
    #[arg(help_heading = "Gateway")]
    token: Option<Token>,
    /// Certificate authority to trust for `https`, as PEM, instead of the public ones
    #[arg(long, env = "WEIR_CA", value_name = "FILE", help_heading = "Gateway")]
    // The parser of paths refuses an empty one, as from `WEIR_CA=`.
    #[arg(value_parser = OsStringValueParser::new().map(PathBuf::from))]
    ca: Option<PathBuf>,
}

impl Connection {
    fn client(self) -> Result<AdminClient, Fault> {
        AdminClient::new(&self.admin, self.token, self.ca.as_deref())
    }
}

#[derive(Debug, Args)]
struct TopArgs {
    /// Begin with this experiment; without a terminal, show only it
    #[arg(add = ArgValueCandidates::new(complete::experiments))]
    experiment: Option<String>,
    /// Print one table and end
    #[arg(long)]
    once: bool,
    /// Print a line of JSON each second, as the live stream has it; with --once, one
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gateway: Connection,
}

#[derive(Debug, Args)]
struct SplitArgs {
    /// Name of the experiment
    #[arg(add = ArgValueCandidates::new(complete::experiments))]
    experiment: String,
    /// New weights, such as stable=90 canary=10; without any, the split is shown
    #[arg(value_name = "NAME=NUMBER", add = ArgValueCandidates::new(complete::weights))]
    weights: Vec<String>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", requires = "weights")]
    reason: Option<String>,
    /// Show it and end, on a terminal too
    #[arg(long, conflicts_with = "weights")]
    show: bool,
    #[command(flatten)]
    gateway: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct ResultsArgs {
    /// Name of the experiment
    #[arg(add = ArgValueCandidates::new(complete::experiments))]
    experiment: String,
    /// Only from here on: a revision, a duration such as 2h, or a time [default: all that is known]
    #[arg(long, value_name = "WHEN", add = ArgValueCandidates::new(complete::revisions))]
    since: Option<String>,
    /// Print a row for each number, comma-separated
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    gateway: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct KeyCreateArgs {
    /// What to call it, in lists and logs
    name: String,
    /// What it may do: client, viewer, experimenter, operator, auditor, admin
    #[arg(long, value_parser = role, add = ArgValueCandidates::new(complete::roles))]
    role: Role,
    /// Route that it may call; again for more [default: all]
    #[arg(long = "route", value_name = "ROUTE", add = ArgValueCandidates::new(complete::routes))]
    routes: Vec<String>,
    /// How long it works, such as 90d or 12h [default: until revoked]
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires: Option<Duration>,
    #[command(flatten)]
    gateway: Connection,
    #[command(flatten)]
    output: Output,
}

/// What `weir demo` can be told.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Send no load; the models and the gateway wait for your own requests
    #[arg(long)]
    pub(crate) no_load: bool,
    /// Address of the edge [default: 127.0.0.1:8443, or a free port if that is in use]
    #[arg(long, value_name = "ADDR")]
    pub(crate) edge: Option<SocketAddr>,
    /// Address of the admin API, on loopback [default: 127.0.0.1:8444, or a free port]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,
    /// Folder for certificate, keys and data, kept at the end [default: a temporary one, removed]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, String> {
    let names = || Role::ALL.map(Role::as_str).join(", ");
    text.parse().map_err(|_| format!("there is no such role; roles are {}", names()))
}

fn revision(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write its number, as `weir history` shows it, such as 7".to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let mend = "write a number with a unit, such as 90d, 12h or 1h30m";
    let span = crate::config::parse_duration(text).map_err(|why| format!("{why}; {mend}"))?;
    if span.is_zero() {
        return Err(format!("a key that never works is of no use; {mend}"));
    }
    Ok(span)
}

/// The whole command: reads the arguments of the process, does what they say, and answers with the
/// exit code.
pub fn main() -> ExitCode {
    if complete::answers() {
        return ExitCode::SUCCESS;
    }
    let mut console = Console::standard();
    ExitCode::from(run(std::env::args_os(), &mut console) as u8)
}

/// Does what `arguments` say; the first is the name of the program.
fn run(arguments: impl IntoIterator<Item = OsString>, console: &mut Console) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(error, &arguments, console),
    };
    match obey(cli.command, console).and_then(|()| console.written()) {
        Ok(()) => Exit::Done,
        Err(fault) => {
            console.fault(&fault);
            fault.exit
        }
    }
}

fn obey(command: Command, console: &mut Console) -> Result<(), Fault> {
    match command {
        Command::Demo(args) => crate::demo::run(args, console),
        Command::Serve { config } => local::serve(&config.config, console),
        Command::Check { config, output } => local::check(&config.config, output.json, console),
        Command::Schema => local::schema(console),
        Command::Vectors { file } => vectors::vectors(&file, console),
        Command::Completions { shell } => complete::script(shell, console),
        Command::Key(KeyCommand::Create(args)) => keys::create(args, console),
        Command::Key(KeyCommand::List { gateway, output }) => {
            keys::list(&gateway.client()?, output.json, console)
        }
        Command::Key(KeyCommand::Revoke { id, gateway, output }) => {
            keys::revoke(&gateway.client()?, &id, output.json, console)
        }
        Command::Status { gateway, output } => {
            status::status(&gateway.client()?, output.json, console)
        }
        Command::Top(TopArgs { experiment, once, json, gateway }) => {
            let wanted = top::Wanted { experiment: experiment.as_deref(), once, json };
            top::top(&gateway.client()?, &wanted, console)
        }
        Command::Split(args) => {
            let weights = weights::parse(&args.weights)?;
            let change = split::Change { experiment: &args.experiment, reason: args.reason };
            let client = args.gateway.client()?;
            if weights.is_empty() {
                let how = match (args.output.json, args.show) {
                    (true, _) => split::Show::Json,
                    (false, true) => split::Show::Only,
                    (false, false) => split::Show::AndEdit,
                };
                return split::show(&client, &args.experiment, how, console);
            }
            split::set(&client, change, &weights, args.output.json, console)
        }
        Command::History { experiment, gateway, output } => {
            history::history(&gateway.client()?, &experiment, output.json, console)
        }
        Command::Undo { experiment, to, reason, gateway, output } => {
            let change = split::Change { experiment: &experiment, reason };
            split::undo(&gateway.client()?, change, to, output.json, console)
        }
        Command::Stop { experiment, reason, gateway, output } => {
            let change = split::Change { experiment: &experiment, reason };
            split::stop(&gateway.client()?, change, output.json, console)
        }
        Command::Experiment(command) => experiment::obey(command, console),
        Command::Export(command) => export::obey(command, console),
        Command::Audit(args) => audit::obey(args, console),
        Command::Ramp(command) => ramp(command, console),
        Command::Webhook(WebhookCommand::List { gateway, output }) => {
            webhooks::list(&gateway.client()?, output.json, console)
        }
        Command::Webhook(WebhookCommand::Test { name, gateway, output }) => {
            webhooks::test(&gateway.client()?, &name, output.json, console)
        }
        Command::Results(args) => {
            let form = match (args.output.json, args.csv) {
                (true, _) => results::Form::Json,
                (false, true) => results::Form::Csv,
                (false, false) => results::Form::Screen,
            };
            let since = args.since.as_deref();
            results::results(&args.gateway.client()?, &args.experiment, since, form, console)
        }
        Command::Shadow(command) => shadow::obey(command, console),
        Command::Assign { experiment, unit, gateway, output } => {
            assign::assign(&gateway.client()?, &experiment, &unit, output.json, console)
        }
    }
}

fn ramp(command: RampCommand, console: &mut Console) -> Result<(), Fault> {
    let mut promoted = None;
    let (word, RampArgs { experiment, reason, gateway, output }) = match command {
        RampCommand::Status { experiment, gateway, output } => {
            return ramp::status(&gateway.client()?, &experiment, output.json, console);
        }
        RampCommand::Start(args) => {
            let RampStartArgs { variant, settings, shadow, afresh, bandit, of } = *args;
            let start = ramp::Start {
                variant,
                settings: settings.as_deref(),
                shadow,
                afresh,
                members: bandit.members(),
            };
            let change = split::Change { experiment: &of.experiment, reason: of.reason };
            let client = of.gateway.client()?;
            return ramp::start(&client, change, start, of.output.json, console);
        }
        RampCommand::Pause(of) => ("pause", of),
        RampCommand::Resume(of) => ("resume", of),
        RampCommand::Abort(of) => ("abort", of),
        RampCommand::Promote(RampPromoteArgs { variant, of }) => {
            promoted = variant;
            ("promote", of)
        }
    };
    let change = split::Change { experiment: &experiment, reason };
    ramp::hand(&gateway.client()?, word, change, promoted, output.json, console)
}

impl BanditArgs {
    /// As members of the request.
    fn members(self) -> Map<String, Value> {
        let Self { mode, metric, better, period, floor, decay, arms } = self;
        let texts = [("mode", mode), ("metric", metric), ("better", better), ("period", period)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, Value::from(text?))));
        let numbers = [("floor", floor), ("decay", decay)];
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some((name, number?.into())));
        let arms = (!arms.is_empty()).then(|| ("arms", arms.into()));
        texts.chain(numbers).chain(arms).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Help and version are answers; everything else that clap says is wrong usage.
fn usage(mut error: clap::Error, arguments: &[OsString], console: &mut Console) -> Exit {
    if error.get(ContextKind::Usage).is_some() {
        // What clap says by itself names `--admin` and `--token` as if they were required, where the
        // environment sets them.
        let usage = ContextValue::StyledStr(called(arguments).render_usage());
        error.insert(ContextKind::Usage, usage);
    }
    let text = error.render();
    let show = |colour: bool| if colour { text.ansi().to_string() } else { text.to_string() };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = show(console.out_paint().on);
        console.print(&text);
        return Exit::Done;
    }
    // A key that was pasted in the wrong place is not repeated.
    let text = show(console.err_paint().on);
    console.note(fault::without_keys(&text).trim_end());
    Exit::Usage
}

/// The command that `arguments` name, as far as they name one.
fn called(arguments: &[OsString]) -> clap::Command {
    let mut command = Cli::command();
    command.build();
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        match command.find_subcommand(word) {
            Some(found) => command = found.clone(),
            None => break,
        }
    }
    command
}

#[cfg(test)]
mod tests;
