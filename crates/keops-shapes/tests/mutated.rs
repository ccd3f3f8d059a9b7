//! Files with changed, missing and repeated bytes: each is read or refused.

mod fuzzed;

use std::fs;
use std::path::PathBuf;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// One change of a file: a byte, a bit, a cut, a repetition, a number that is large.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    match random.below(6) {
        0 => bytes[at] = random.below(256) as u8,
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes.truncate(at.max(1)),
        3 => {
            let end = (at + 1 + random.below(40)).min(bytes.len());
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        4 => {
            let end = (at + 1 + random.below(40)).min(bytes.len());
            bytes.drain(at..end);
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        _ => {
            let large: [&[u8]; 5] = [b"4294967296", b"-1", b"1e400", b"nan", &[0xff; 8]];
            let large = large[random.below(large.len())];
            let end = (at + large.len()).min(bytes.len());
            bytes.splice(at..end, large.iter().copied());
        }
    }
}

#[test]
fn changed_files_are_read_or_refused() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut files = 0;
    let mut random = Random(1);
    for entry in fs::read_dir(folder).expect("the files are part of the repository") {
        let path = entry.expect("a file").path();
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let Some(format) = fuzzed::NAMES.iter().position(|n| n.ends_with(&format!(".{ending}")))
        else {
            continue;
        };
        files += 1;
        let content = fs::read(&path).expect("a readable file");
        let file = |content: &[u8]| [&[format as u8], content].concat();
        fuzzed::shapes(&file(&content));
        for _ in 0..2000 {
            let mut changed = content.clone();
            for _ in 0..1 + random.below(4) {
                mutate(&mut changed, &mut random);
            }
            fuzzed::shapes(&file(&changed));
        }
    }
    assert!(files >= 15, "{files} files");
}
