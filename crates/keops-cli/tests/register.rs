//! `keops register` killed, interrupted, and given full disks and closed pipes: nothing that was
//! reached is lost, and what is resumed is what would have been.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_keops");

/// A folder of its own, removed at the end.
struct Folder(PathBuf);
impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("keops-run-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }
    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CHECKPOINT: &str = "checkpoint.keops";
const RESULTS: [&str; 6] =
    ["source.vtk", "target.vtk", "result.vtk", "momenta.vtk", "deformation.pvd", "picture.svg"];

fn command(out: &Path, iterations: usize, more: &[&str]) -> Command {
    let mut c = Command::new(PROGRAM);
    c.args(["register", "--curves", "--resolution", "1", "--tolerance", "0", "--checkpoint", "1"]);
    if !more.contains(&"--steps") {
        c.args(["--steps", "5"]);
    }
    c.args(["--iterations", &iterations.to_string()]).arg("--out").arg(out).args(more);
    c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    c
}
fn run(out: &Path, iterations: usize, more: &[&str]) -> Output {
    command(out, iterations, more).output().expect("the program runs")
}
#[track_caller]
fn succeeds(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The content of a folder of results; the report without its times.
fn results(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = RESULTS
        .iter()
        .map(|name| (name.to_string(), fs::read(out.join(name)).expect("a result")))
        .collect();
    let mut steps: Vec<_> = fs::read_dir(out.join("deformation"))
        .expect("the series")
        .map(|e| e.expect("a file").path())
        .collect();
    steps.sort();
    all.extend(steps.iter().map(|p| (p.display().to_string(), fs::read(p).expect("a step"))));
    for (name, _) in &mut all[RESULTS.len()..] {
        *name = name.rsplit('/').next().expect("a name").into();
    }
    let report = fs::read_to_string(out.join("report.json")).expect("a report");
    let mut report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    report["seconds"] = 0.into();
    all.push(("report.json".into(), report.to_string().into()));
    all
}
#[track_caller]
fn same_results(a: &Path, b: &Path) {
    let (a, b) = (results(a), results(b));
    let names = |r: &[(String, Vec<u8>)]| r.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    for (a, b) in a.iter().zip(&b) {
        assert!(a.1 == b.1, "{} differs", a.0);
    }
}
#[track_caller]
fn no_temporary_files(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let name = entry.expect("a file").file_name().to_string_lossy().into_owned();
        assert!(!name.ends_with(".tmp"), "{name} is left");
    }
}
fn wait_for(file: &Path) {
    let start = Instant::now();
    while !file.exists() && start.elapsed() < Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(2));
    }
}
fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(done.expect("kill runs").success());
}

/// Killed again and again at any moment and resumed, a run is the one that was left alone.
#[test]
fn killed_and_resumed() {
    let folder = Folder::new("killed");
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    succeeds(&run(&whole, 120, &[]));
    let (mut kills, mut resumed) = (0, false);
    for k in 0..40u64 {
        let more: &[&str] = if resumed { &["--resume"] } else { &["--force"] };
        let mut child = command(&parts, 120, more).spawn().expect("the program runs");
        wait_for(&parts.join(CHECKPOINT));
        // Moments that have nothing to do with each other, mostly within the minimisation.
        std::thread::sleep(Duration::from_millis(k * 7919 % 60));
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        kills += 1;
        resumed = parts.join(CHECKPOINT).exists();
    }
    println!("killed {kills} times");
    assert!(kills > 0 && resumed);
    succeeds(&run(&parts, 120, &["--resume"]));
    same_results(&whole, &parts);
}

/// SIGTERM and SIGINT save and stop; the results are those of what was reached.
#[test]
fn interrupted_and_resumed() {
    let folder = Folder::new("interrupted");
    let whole = folder.join("whole");
    succeeds(&run(&whole, 2000, &[]));
    for name in ["-TERM", "-INT"] {
        let part = folder.join(name);
        let child = command(&part, 2000, &[]).spawn().expect("the program runs");
        wait_for(&part.join(CHECKPOINT));
        signal(&child, name);
        let output = child.wait_with_output().expect("it ends");
        // (On a machine that is fast enough the run is over before.)
        if output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(130), "{output:?}");
            assert!(text(&output.stdout).contains("interrupted"), "{output:?}");
        }
        assert_eq!(results(&part).len(), results(&whole).len());
        succeeds(&run(&part, 2000, &["--resume"]));
        same_results(&whole, &part);
        no_temporary_files(&part);
    }
}

/// Results are there whatever becomes of the output, and the exit code tells.
#[test]
fn output_that_cannot_be_written() {
    let folder = Folder::new("output");
    let whole = folder.join("whole");
    succeeds(&run(&whole, 5, &[]));
    let full = || fs::OpenOptions::new().write(true).open("/dev/full");
    if full().is_err() {
        println!("skipped: /dev/full is absent");
    } else {
        let out = folder.join("stdout");
        let mut c = command(&out, 5, &[]);
        let status = c.stdout(full().expect("a device")).status().expect("it runs");
        assert_eq!(status.code(), Some(1));
        same_results(&whole, &out);
        let out = folder.join("stderr");
        let mut c = command(&out, 5, &[]);
        let status = c.stderr(full().expect("a device")).status().expect("it runs");
        assert_eq!(status.code(), Some(0));
        same_results(&whole, &out);
    }
    // Pipes that nobody reads.
    let out = folder.join("pipe");
    let mut child = command(&out, 5, &[]).spawn().expect("it runs");
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().expect("it ends").code(), Some(141));
    same_results(&whole, &out);
}

/// A disk that is full (a limit on the size of files) is an error; what was there stays as it was.
#[test]
fn a_full_disk() {
    let folder = Folder::new("full");
    let out = folder.join("out");
    succeeds(&run(&out, 3, &[]));
    let before = results(&out);
    // Without the signal, a file that grows too large is an error of the write.
    let limited = |blocks: usize, more: &str| {
        let line = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec {} register --curves --resolution 1 --steps 5 --tolerance 0 \
             --checkpoint 1 --iterations 6 --out {} {more}",
            PROGRAM,
            out.display()
        );
        Command::new("sh").args(["-c", &line]).output().expect("a shell")
    };
    for blocks in [0, 1, 4, 8] {
        let output = limited(blocks, "--force");
        let message = text(&output.stderr);
        if output.status.success() {
            break;
        }
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(message.contains("error: the results were not written: "), "{message}");
        assert!(message.contains("File too large"), "{message}");
        assert!(results(&out) == before, "{blocks} blocks: earlier results have changed");
        no_temporary_files(&out);
        no_temporary_files(&out.join("deformation"));
    }
    assert!(results(&out) == before);
    // With room again the run goes on from what it could save, or from the one before.
    succeeds(&run(&out, 6, &["--resume"]));
    let whole = folder.join("whole");
    succeeds(&run(&whole, 6, &[]));
    same_results(&whole, &out);
}

/// Where there is nothing yet, the result is kept though its picture and time series do not fit.
#[test]
fn a_disk_with_room_for_the_result_alone() {
    let folder = Folder::new("narrow");
    let (out, whole) = (folder.join("out"), folder.join("whole"));
    let line = |blocks: usize, out: &Path| {
        format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec {} register --curves --resolution 1 --steps 5 --tolerance 0 \
             --iterations 3 --checkpoint 1000 --out {}",
            PROGRAM,
            out.display()
        )
    };
    let run = |line: String| Command::new("sh").args(["-c", &line]).output().expect("a shell");
    succeeds(&run(line(100_000, &whole)));
    let size = |name: &str| fs::metadata(whole.join(name)).expect("it is there").len();
    let results = ["momenta.vtk", "result.vtk", "source.vtk", "target.vtk", "report.json"];
    let largest = results.iter().map(|name| size(name)).max().expect("files");
    // (Blocks of sh have 512 bytes.)
    let blocks = largest.div_ceil(512);
    assert!(size("picture.svg") > 512 * blocks, "the picture fits");
    let output = run(line(blocks as usize, &out));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = text(&output.stderr);
    assert!(message.contains("the folder holds momenta.vtk, result.vtk"), "{message}");
    for name in results.iter().filter(|name| **name != "report.json") {
        assert!(fs::read(out.join(name)).ok() == fs::read(whole.join(name)).ok(), "{name}");
    }
    assert!(out.join("report.json").exists() && !out.join("picture.svg").exists());
    no_temporary_files(&out);
}

#[test]
fn results_of_another_run_are_not_touched() {
    let folder = Folder::new("overwrite");
    let out = folder.join("out");
    succeeds(&run(&out, 2, &["--steps", "9"]));
    assert!(out.join("deformation/step_0009.vtp").exists());
    let before = results(&out);
    let output = run(&out, 2, &[]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("holds another run") && message.contains("--force"), "{message}");
    assert!(results(&out) == before);
    // Another problem is not resumed.
    let output = run(&out, 2, &["--resume", "--gamma", "0.5"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("of the checkpoint: expected "), "{output:?}");
    assert!(results(&out) == before);
    // Nor what is not there, nor what is damaged.
    let output = run(&folder.join("none"), 2, &["--resume"]);
    assert!(text(&output.stderr).contains("--resume: "), "{output:?}");
    // Fewer steps: those of the longer run go.
    succeeds(&run(&out, 2, &["--force"]));
    assert!(!out.join("deformation/step_0009.vtp").exists());
    assert!(!out.join("deformation/step_0006.vtp").exists());
    let whole = folder.join("whole");
    succeeds(&run(&whole, 2, &[]));
    same_results(&whole, &out);
    fs::write(out.join(CHECKPOINT), "keops registration checkpoint 1 5 0\n{}").expect("a file");
    let output = run(&out, 3, &["--resume"]);
    assert!(text(&output.stderr).contains("the checkpoint is damaged"), "{output:?}");
}

#[test]
fn shapes_that_have_no_size() {
    let folder = Folder::new("size");
    let write = |name: &str, lines: &str| {
        let path = folder.join(name);
        fs::write(&path, lines).expect("a file");
        path.display().to_string()
    };
    let one = write("one.obj", "v 1 2 3\nv 1 2 3\n");
    let other = write("other.obj", "v 1 2 4\nv 1 2 4\n");
    let out = folder.join("out");
    let go = |more: &[&str]| {
        let mut c = Command::new(PROGRAM);
        c.args(["register", &one, &other])
            .args(["--attachment", "landmarks", "--force", "--quiet"])
            .args(more);
        c.arg("--out").arg(&out).output().expect("it runs")
    };
    // Landmarks have no kernel of centres; the deformation has one, and no size to take it from.
    let message = text(&go(&[]).stderr);
    assert!(
        message.starts_with("error: --sigma is needed: the points of the source coincide"),
        "{message}"
    );
    let output = go(&["--sigma", "1"]);
    succeeds(&output);
    let report = fs::read_to_string(out.join("report.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    // Two landmarks at one place, one unit from their targets: they go there.
    assert!(report["distances_after"]["forward"]["max"].as_f64().expect("a number") < 0.05);
}
