//! Options from TOML files: a key for each option of a command, by its long name; lists for what
//! may be repeated. What is given in the command line comes first.

use crate::failure::{About, Done, usage};
use crate::session::{Destination, Session};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use toml::{Table, Value};

/// The key that names the command in a file.
const COMMAND: &str = "command";
/// Options that files do not hold: they are about files of this kind, or about this call alone.
const NOT_KEPT: [&str; 4] = ["config", "save_config", "help", "version"];

/// The command that was given, by its path of names, with its own matches.
fn innermost(command: Command, matches: &ArgMatches) -> (Vec<String>, Command, &ArgMatches) {
    let (mut path, mut command, mut own) = (vec![], command, matches);
    while let Some((name, sub)) = own.subcommand() {
        let Some(found) = command.find_subcommand(name).cloned() else { break };
        path.push(name.to_string());
        (command, own) = (found, sub);
    }
    (path, command, own)
}

/// The arguments with those of the file that --config names.
pub fn with_file(mut command: Command, given: Vec<OsString>) -> Done<Vec<OsString>> {
    command.build();
    // What is missing may be in the file: this reading looks for --config only.
    let Ok(matches) = command.clone().ignore_errors(true).try_get_matches_from(&given) else {
        return Ok(given);
    };
    let (path, own, found) = innermost(command, &matches);
    let Some(file) = found.try_get_one::<std::path::PathBuf>("config").ok().flatten() else {
        return Ok(given);
    };
    let name = file.display();
    let text = std::fs::read_to_string(file).about(format!("--config: {name}"))?;
    let table: Table = text.parse().about(format!("--config: {name}"))?;
    let (mut options, mut positional) = (vec![], vec![]);
    let expected = path.join(" ");
    if let Some(value) = table.get(COMMAND)
        && value.as_str() != Some(expected.as_str())
    {
        return usage(format!(
            "--config: {name} is for the command {value}, this is \"{expected}\""
        ));
    }
    for (key, value) in table.iter().filter(|(key, _)| *key != COMMAND) {
        let id = key.replace('-', "_");
        let arg = own
            .get_arguments()
            .find(|a| a.get_id() == id.as_str() && !NOT_KEPT.contains(&id.as_str()));
        let Some(arg) = arg else {
            return usage(format!(
                "--config: {name}: `{key}` is no option of \"{expected}\": `keops {expected} --help` lists \
                 them"
            ));
        };
        if found.value_source(&id) == Some(ValueSource::CommandLine) {
            continue;
        }
        let values = match value {
            Value::Array(all) => all.iter().collect(),
            one => vec![one],
        };
        for value in values {
            let text = match value {
                Value::String(s) => s.clone(),
                Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
                _ => {
                    return usage(format!(
                        "--config: {name}: `{key}`: expected a text, a number or a list, got {value}"
                    ));
                }
            };
            match (arg.get_long(), arg.get_action()) {
                (None, _) => positional.push((arg.get_index(), text)),
                (Some(long), ArgAction::SetTrue) => match text.as_str() {
                    "true" => options.push(format!("--{long}")),
                    "false" => {}
                    _ => return usage(format!("--config: {name}: `{key}` is true or false")),
                },
                (Some(long), _) => options.push(format!("--{long}={text}")),
            }
        }
    }
    positional.sort_by_key(|(index, _)| *index);
    let mut all = given;
    // Nothing may stand before options of the file but what was given.
    all.extend(options.into_iter().map(OsString::from));
    if !positional.is_empty() {
        all.push("--".into());
        all.extend(positional.into_iter().map(|(_, text)| text.into()));
    }
    Ok(all)
}

/// Writes the options of this run, defaults included.
pub fn save(path: &Path, mut command: Command, matches: &ArgMatches, session: &Session) -> Done {
    command.build();
    let (names, own, found) = innermost(command, matches);
    let mut table = Table::new();
    table.insert(COMMAND.into(), Value::String(names.join(" ")));
    for arg in own.get_arguments() {
        let id = arg.get_id().as_str();
        let none = matches!(found.value_source(id), None | Some(ValueSource::EnvVariable));
        if none || NOT_KEPT.contains(&id) || id == "force" {
            continue;
        }
        let key = arg.get_long().unwrap_or(id).to_string();
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            if found.get_flag(id) {
                table.insert(key, Value::Boolean(true));
            }
            continue;
        }
        let Some(raw) = found.get_raw(id) else { continue };
        let mut values: Vec<Value> = raw
            .map(|v| {
                let text = v.to_string_lossy().into_owned();
                match (text.parse::<i64>(), text.parse::<f64>()) {
                    (Ok(n), _) if n.to_string() == text => Value::Integer(n),
                    (_, Ok(x)) if x.is_finite() && !text.contains(['+', '_']) => Value::Float(x),
                    _ => Value::String(text),
                }
            })
            .collect();
        let repeats = matches!(arg.get_action(), ArgAction::Append)
            || arg.get_num_args().is_some_and(|n| n.max_values() > 1);
        match (repeats, values.pop()) {
            (false, Some(one)) => table.insert(key, one),
            (true, Some(last)) => {
                values.push(last);
                table.insert(key, Value::Array(values))
            }
            (_, None) => continue,
        };
    }
    let to = Destination::new(path, session)?;
    to.write(|file| file.write_all(table.to_string().as_bytes()))
}
