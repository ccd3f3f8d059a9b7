//! Generated text, as reviewed; `KEOPS_BLESS=1` writes it anew.

use super::witness;
use crate::codegen::{Tuning, generate};
use std::path::PathBuf;

#[test]
fn generated_text_is_as_reviewed() {
    for (name, file) in [
        ("gaussian 3", "gaussian"),
        ("log-sum-exp, scale 1", "log_sum_exp"),
        ("ArgKMin 10", "arg_k_min"),
    ] {
        let w = witness::all().into_iter().find(|w| w.name == name).unwrap();
        let code = generate(&w.spec, Tuning::default()).unwrap();
        let text = format!("// {name}\n{}{}", code.types, code.kernels);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(format!("{file}.cu"));
        if std::env::var_os("KEOPS_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
            continue;
        }
        let want = std::fs::read_to_string(&path).unwrap();
        assert!(
            text == want,
            "{} differs from the code generated now (KEOPS_BLESS=1 accepts it):\n{text}",
            path.display()
        );
    }
}
