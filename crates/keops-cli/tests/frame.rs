//! What all commands share: help, options from files, exit codes, output that cannot be written.

mod common;
use common::{Folder, points, text};
use std::fs;
use std::process::Stdio;

const COMMANDS: [&str; 13] = [
    "reduce",
    "knn",
    "solve",
    "regress",
    "register",
    "shoot",
    "distance",
    "explain",
    "bench",
    "doctor",
    "completions",
    "man",
    "help",
];

/// Help fits a terminal, and every command has examples.
#[test]
fn help_fits_80_columns() {
    let folder = Folder::new("help");
    let mut all = vec![folder.succeeds(&["--help"]), folder.succeeds(&["-h"])];
    for command in COMMANDS.iter().filter(|c| **c != "help") {
        let help = folder.succeeds(&[command, "--help"]);
        assert!(help.contains("Example"), "{command}");
        all.push(help);
    }
    all.extend(["fit", "predict"].map(|c| folder.succeeds(&["regress", c, "--help"])));
    for line in all.iter().flat_map(|t| t.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for command in COMMANDS {
        assert!(all[0].contains(&format!("\n  {command}")), "{command} is listed");
    }
}

#[test]
fn version_completions_and_manual() {
    let folder = Folder::new("manual");
    assert_eq!(folder.succeeds(&["--version"]), format!("keops {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(folder.succeeds(&["completions", shell]).contains("cotangent"), "{shell}");
    }
    let page = folder.succeeds(&["man"]);
    assert!(page.contains(".TH keops 1") && page.contains("Exit codes"));
    assert!(folder.succeeds(&["man", "reduce"]).contains("cotangent"));
    folder.fails(&["man", "nothing"], 2, &["nothing"]);
}

#[test]
fn usage_is_2() {
    let folder = Folder::new("usage");
    folder.fails(&[], 2, &["Usage", "a command is needed"]);
    folder.fails(&["redcue"], 2, &["redcue", "reduce"]);
    folder.fails(&["reduce"], 2, &["FORMULA"]);
    folder.fails(&["doctor", "--threads", "0"], 2, &["--threads"]);
    folder.fails(&["doctor", "--level", "sse2"], 2, &["sse2", "avx512, avx2, portable"]);
    folder.fails(&["reduce", "x", "--vi", "x"], 2, &["--vi x", "x=points.npy"]);
    folder.fails(&["reduce", "x", "--pm", "x=1", "--pm", "x=2"], 2, &["`x` is given twice"]);
}

#[test]
fn doctor_knows_the_machine() {
    let folder = Folder::new("doctor");
    let report = folder.json(&["doctor", "--threads", "1", "--level", "portable"]);
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&report["threads"], &report["level"]), (&1.into(), &"portable".into()));
    assert_eq!(report["code"], "interpreted");
    assert_eq!(report["levels"].as_array().map(Vec::len), Some(3));
    let told = folder.succeeds(&["doctor"]);
    assert!(told.contains("processor") && told.contains("gpu"), "{told}");
}

/// Figures that belong together (how large they are is the machine's affair).
#[test]
fn bench_measures() {
    let folder = Folder::new("bench");
    let call = ["bench", "--points", "100", "--seconds", "0", "--threads", "1"];
    for dtype in ["f16", "f32", "f64"] {
        let report = folder.json(&[&call[..], &["--dtype", dtype]].concat());
        assert_eq!((&report["dtype"], &report["threads"]), (&dtype.into(), &1.into()));
        let rows = report["rows"].as_array().expect("rows");
        assert!(rows.len() > 5);
        for row in rows {
            let [time, each] =
                ["seconds", "ns_per_pair"].map(|k| row[k].as_f64().expect("a number"));
            assert!(time > 0.0 && (each - time * 1e9 / 1e4).abs() <= 1e-9 * each, "{row}");
            assert_eq!(row["calls"], 3);
        }
    }
    assert!(folder.succeeds(&call).contains("ns per pair"));
    folder.fails(&["bench", "--points", "0"], 2, &["--points"]);
    folder.fails(&["bench", "--seconds", "soon"], 2, &["--seconds"]);
}

/// A run that is saved and read again does the same; the command line comes first.
#[test]
fn options_from_files() {
    let folder = Folder::new("config");
    folder.npy("x.npy", &points(4, 2, 0));
    folder.npy("y.npy", &points(5, 2, 1));
    let formula = "g * SqDist(x, y)";
    let given = [
        "reduce",
        formula,
        "--vi",
        "x=x.npy",
        "--vj",
        "y=y.npy",
        "--pm",
        "g=-0.5",
        "--axis",
        "i",
        "-r",
        "LogSumExp",
        "--quiet",
        "--save-config",
        "run.toml",
    ];
    let first = folder.succeeds(&given);
    assert_eq!(first.lines().count(), 5);
    let saved = fs::read_to_string(folder.join("run.toml")).expect("a file");
    for line in ["command = \"reduce\"", "vi = [\"x=x.npy\"]", "axis = \"i\"", "quiet = true"] {
        assert!(saved.lines().any(|l| l == line), "{line}: {saved}");
    }
    assert_eq!(folder.succeeds(&["reduce", "--config", "run.toml"]), first);
    let other = folder.succeeds(&["reduce", "--config", "run.toml", "--axis", "j"]);
    assert_eq!(other.lines().count(), 4);
    let negative = folder.succeeds(&["reduce", "--config", "run.toml", "--pm", "g=0"]);
    assert_eq!(negative, "1.3862943611198906\n".repeat(5)); // log 4
    // The formula too.
    let ones = folder.succeeds(&["reduce", "0 * g + SqDist(x, x)", "--config", "run.toml"]);
    assert_eq!(ones.lines().count(), 5);

    folder.fails(&["doctor", "--config", "run.toml"], 2, &["run.toml", "reduce"]);
    folder.fails(&["reduce", "--config", "none.toml"], 1, &["none.toml"]);
    folder.text("wrong.toml", "axes = \"i\"\n");
    folder.fails(&["reduce", "x", "--config", "wrong.toml"], 2, &["`axes`", "--help"]);
    folder.text("wrong.toml", "axis = {i = 1}\n");
    folder.fails(&["reduce", "x", "--config", "wrong.toml"], 2, &["`axis`"]);
    folder.text("wrong.toml", "axis = \n");
    folder.fails(&["reduce", "x", "--config", "wrong.toml"], 1, &["wrong.toml"]);
    folder.fails(&given, 1, &["run.toml", "--force"]);
    folder.succeeds(&[&given[..], &["--force"]].concat());
}

/// Whatever happens to standard output, nothing panics, and the exit code says it.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written() {
    let folder = Folder::new("full");
    folder.npy("x.npy", &points(4, 2, 0));
    let formula = ["reduce", "x", "--vj", "x=x.npy"];
    let help = ["--help"];
    let explain = ["explain", "x", "x = Vj(2)"];
    let completions = ["completions", "bash"];
    let doctor = ["doctor", "--json"];
    let calls: [&[&str]; 6] = [&formula, &help, &explain, &completions, &doctor, &["man"]];
    for call in calls {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let output = folder.command(call).stdout(full).output().expect("it runs");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("standard output") && !told.contains("panicked"), "{told}");

        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = folder.command(call).stdout(writer).output().expect("it runs");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), String::new()));

        // Errors that cannot be told are still errors.
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let mut wrong = folder.command(&["reduce", "x +"]);
        let status = wrong.stdout(Stdio::null()).stderr(full).status().expect("it runs");
        assert_eq!(status.code(), Some(1));
    }
}
