//! `keops explain`: what it must show.

mod common;
use common::Folder;

const GAUSS: [&str; 5] =
    ["explain", "Exp(-SqDist(x, y)) * b", "x = Vi(3)", "y = Vj(3)", "b = Vj(1)"];

#[test]
fn graph_program_and_code() {
    let folder = Folder::new("explain");
    let told = folder.succeeds(&GAUSS);
    for part in ["x: Vi(3)", "Sum over J", "Exp %", "program f32 sum", "runs on"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let double =
        folder.succeeds(&[&GAUSS[..], &["--dtype", "f64", "--level", "portable"]].concat());
    assert!(double.contains("program f64 sum") && double.contains("vcode f64"), "{double}");
    let gradient = folder.json(&[&GAUSS[..], &["--gradient", "x", "--gradient", "y"]].concat());
    assert_eq!(gradient["arguments"], serde_json::json!(["x", "y", "b", "e", "e2"]));
    folder.succeeds(&["explain", "-Log(x)", "x = Vj(1)"]);
}

/// Every edge of the graph joins nodes that are declared.
#[test]
fn graphs_are_whole() {
    let folder = Folder::new("dot");
    let calls: [&[&str]; 4] = [
        &[],
        &["--gradient", "x"],
        &["--gradient", "x", "--gradient", "b"],
        &["-r", "Variance", "--gradient", "y"],
    ];
    for more in calls {
        let dot = folder.succeeds(&[&GAUSS[..], more, &["--dot"]].concat());
        let (mut nodes, mut edges) = (vec![], vec![]);
        for line in dot.lines().map(str::trim) {
            if let Some((from, to)) = line.split_once(" -> ") {
                edges.extend([from, to.trim_end_matches(';')]);
            } else if let Some((name, _)) = line.split_once(" [") {
                nodes.push(name);
            }
        }
        assert!(edges.len() > 10 && dot.starts_with("digraph"), "{dot}");
        for end in edges {
            assert!(nodes.contains(&end), "{end}: {dot}");
        }
        let count = |c| dot.matches(c).count();
        assert_eq!(count('{'), count('}'));
    }
}

#[test]
fn what_cannot_be_explained() {
    let folder = Folder::new("unexplained");
    folder.fails(&["explain", "Foo(x)", "x = Vi(3)"], 1, &["Foo", "^"]);
    folder.fails(&["explain", "x", "x : Vi(3)"], 2, &["x = Vi(3)"]);
    folder.fails(&["explain", "x", "x = Vk(3)"], 1, &["Vk"]);
    folder.fails(&["explain", "x", "x = Vi(3)", "--gradient", "q"], 1, &["--gradient q", "`q`"]);
}
