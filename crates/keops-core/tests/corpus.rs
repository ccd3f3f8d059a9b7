//! Replays what the fuzz targets of `fuzz/` found: the committed corpus, in `tests/corpus/<target>`.

mod fuzzed;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut slowest = (Duration::ZERO, PathBuf::new());
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.expect("a file").path();
        let data = fs::read(&path).expect("a readable file");
        println!("{}", path.display());
        let start = Instant::now();
        run(&data);
        slowest = slowest.max((start.elapsed(), path));
        inputs += 1;
    }
    println!("{target}: {inputs} inputs, the slowest in {slowest:?}");
    assert!(inputs >= 100, "{target}: {inputs} inputs in {}", folder.display());
}

#[test]
fn parser() {
    replay("parser", fuzzed::parser);
}

#[test]
fn construction() {
    replay("construction", fuzzed::construction);
}
