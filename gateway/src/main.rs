//! The `weir` command. What it can do stands in `cli`; what it starts, in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway::cli::main()
}
