//! The command line of keops. Each command is a file; what they share is in `session` (options,
//! output, interruption), `config` (TOML), `data` (files of arrays), `inputs` (formulas and
//! arrays), `results` and `failure` (exit codes).

mod bench;
mod config;
mod data;
mod distance;
mod doctor;
mod explain;
mod failure;
mod inputs;
mod knn;
mod memory;
mod reduce;
mod register;
mod regress;
mod results;
mod session;
mod shapes;
mod shoot;
mod solve;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use failure::{Done, Failure};
use session::{Session, print_with};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  keops reduce 'Exp(-SqDist(x, y)) * b' --vi x=x.npy --vj y=y.npy --vj b=b.npy
  keops explain 'Exp(-SqDist(x, y)) * b' 'x = Vi(3)' 'y = Vj(3)' 'b = Vj(1)'
  keops doctor
  keops reduce --help

Exit codes: 0 done; 1 an input is wrong or something failed; 2 the options are
wrong; 3 a solver did not reach its tolerance (what it reached is written); 130
interrupted; 141 the reader of the output has gone.";

/// Kernel reductions of files: out_i = Reduce_j F(p, x_i, y_j), and what is built on them
#[derive(Parser, Debug)]
#[command(name = "keops", version, after_help = EXAMPLES, max_term_width = 80)]
struct Program {
    #[command(flatten)]
    session: Session,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Reduce(Box<reduce::Command>),
    Knn(knn::Command),
    Solve(Box<solve::Command>),
    Regress(regress::Command),
    Register(Box<register::Command>),
    Shoot(shoot::Command),
    Distance(distance::Command),
    Explain(explain::Command),
    Bench(bench::Command),
    Doctor(doctor::Command),
    Completions(Completions),
    Man(Man),
}

/// Print the completions of a shell: bash, zsh, fish, elvish or powershell
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  keops completions bash > ~/.local/share/bash-completion/completions/keops"
)]
struct Completions {
    shell: clap_complete::Shell,
}

/// Print the manual page, of keops or of one command
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  keops man > keops.1\n  keops man reduce | man -l -")]
struct Man {
    /// Command
    command: Option<String>,
}

fn main() -> ExitCode {
    match begin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                let _ = writeln!(std::io::stderr(), "error: {message}");
            }
            failure.code()
        }
    }
}

fn begin() -> Done {
    let given: Vec<OsString> = std::env::args_os().collect();
    let given = config::with_file(Program::command(), given)?;
    let matches = match Program::command().try_get_matches_from(given) {
        Ok(matches) => matches,
        Err(e) => return tell(&e),
    };
    let program = match Program::from_arg_matches(&matches) {
        Ok(program) => program,
        Err(e) => return tell(&e),
    };
    let session = &program.session;
    if let Some(path) = &session.save_config {
        config::save(path, Program::command(), &matches, session)?;
    }
    session.begin()?;
    match &program.command {
        Command::Reduce(c) => reduce::run(c, session),
        Command::Knn(c) => knn::run(c, session),
        Command::Solve(c) => solve::run(c, session),
        Command::Regress(c) => regress::run(c, session),
        Command::Register(c) => register::run(c, session),
        Command::Shoot(c) => shoot::run(c, session),
        Command::Distance(c) => distance::run(c, session),
        Command::Explain(c) => explain::run(c, session),
        Command::Bench(c) => bench::run(c, session),
        Command::Doctor(c) => doctor::run(c, session),
        Command::Completions(c) => print_with(|out| {
            // (It writes to memory first: a closed pipe is no reason to panic.)
            let mut text = vec![];
            clap_complete::generate(c.shell, &mut Program::command(), "keops", &mut text);
            out.write_all(&text)
        }),
        Command::Man(c) => manual(c),
    }
}

/// Help, version and errors of the options, as clap words them.
fn tell(e: &clap::Error) -> Done {
    let text = e.render().to_string();
    if !e.use_stderr() {
        return session::say(&text);
    }
    if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = write!(std::io::stderr(), "{text}");
        return failure::usage("a command is needed");
    }
    let text = text.trim_end().strip_prefix("error: ").unwrap_or(text.trim_end()).to_string();
    Err(Failure::Usage(text))
}

fn manual(c: &Man) -> Done {
    let mut all = Program::command();
    all.build();
    let command = match &c.command {
        None => all,
        Some(name) => {
            let own = all.get_subcommands().find(|s| s.get_name() == name).cloned();
            match own {
                Some(own) => own.display_name(format!("keops-{name}")),
                None => return failure::usage(format!("there is no command {name:?}")),
            }
        }
    };
    let mut text = vec![];
    clap_mangen::Man::new(command).render(&mut text)?;
    print_with(|out| out.write_all(&text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    /// Names, conflicts and defaults of all options are sound.
    #[test]
    fn options_are_sound() {
        super::Program::command().debug_assert();
    }
}
