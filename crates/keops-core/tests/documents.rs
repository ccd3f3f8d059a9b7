//! Documents that say what the tables say: docs/operations.md is generated from them
//! (`KEOPS_BLESS=1` writes it), the guides show real entries, and entries keep their budgets.

use keops_core::reduce::{Definition, Family, WeightRule};
use keops_core::{composite, ops, reduce};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}
/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn operations() -> String {
    let mut s = String::from(
        "# Operations and reductions\n\n\
         Generated from the tables of `keops-core` by `KEOPS_BLESS=1 cargo test -p keops-core \
         --test documents`.\n\n\
         ## Element-wise operations\n\n\
         Operands have one dimension, or dimension 1, which is repeated; the result has the larger \
         one. The domain is where tests draw operands from, kinks are where the derivative jumps \
         (see [semantics.md](semantics.md)), and the error of compiled code is at most this many \
         units in the last place of the result.\n\n\
         | name | operands | value | domain | kinks | ulps |\n|---|---|---|---|---|---|\n",
    );
    for o in ops::ALL {
        let kinks: Vec<String> = o.kinks.iter().map(f64::to_string).collect();
        let (low, high) = o.domain;
        writeln!(
            s,
            "| `{}` | {} | {} | {low} to {high} | {} | {} |",
            o.name,
            o.arity,
            cell(o.doc),
            kinks.join(", "),
            o.ulps
        )
        .unwrap();
    }
    s.push_str(
        "\n## Row numbers\n\n\
         `i` and `j` in a formula are the number of the row and that of the column, counted from 0, of \
         dimension 1, unless a variable has that name; `LazyTensor::i()` and `LazyTensor::j()` with \
         operators. `Select(i == j, 0, f)` leaves out the diagonal. They are exact: f16, bf16 and f32 \
         data with more than 2^24 rows are refused where a formula numbers them. Their derivative is 0.\n",
    );
    s.push_str(
        "\n## Composite operations\n\n\
         Expansions into other operations; gradients and code follow. Dimensions are checked when \
         a formula is built. Literals are integers or lists of integers.\n\n\
         | name | operands | literals | meaning |\n|---|---|---|---|\n",
    );
    let several = |(low, high): (usize, usize)| match high {
        _ if low == high => low.to_string(),
        usize::MAX => format!("{low} or more"),
        _ => format!("{low} to {high}"),
    };
    for c in composite::ALL.iter() {
        let (operands, literals) = (several(c.operands), several(c.literals));
        writeln!(s, "| `{}` | {operands} | {literals} | {} |", c.name, cell(c.doc)).unwrap();
    }
    s.push_str(
        "\n## Reductions\n\n\
         Over the rows `i` or `j` of a formula f, for some of a second formula w, the weight. \
         Results are values, or indices in `i64`.\n\n\
         | name | other spellings | meaning | weight | results | differentiable |\n\
         |---|---|---|---|---|---|\n",
    );
    for r in reduce::all() {
        let weight = match r.weight() {
            WeightRule::Never => "no",
            WeightRule::Optional => "optional",
            WeightRule::Required => "required",
        };
        let kind = match r {
            Definition::Basic(r) => Some(&r.kind),
            Definition::Derived(_) => None,
        };
        let (results, differentiable) = match kind {
            None | Some(Family::Accumulate(_)) => ("values", "yes"),
            Some(Family::Select(s)) => match (s.value, s.index) {
                (true, true) => ("values, indices", "the values"),
                (true, false) => ("values", "yes"),
                _ => ("indices", "no"),
            },
        };
        let spellings: Vec<String> = r.spellings().iter().map(|s| format!("`{s}`")).collect();
        writeln!(
            s,
            "| `{}` | {} | {} | {weight} | {results} | {differentiable} |",
            r.name(),
            spellings.join(", "),
            cell(r.doc())
        )
        .unwrap();
    }
    s
}

#[test]
fn operations_are_documented() {
    let made = operations();
    if std::env::var_os("KEOPS_BLESS").is_some_and(|v| v == "1") {
        fs::write(root("docs/operations.md"), &made).unwrap();
    }
    let kept = read("docs/operations.md");
    let line = made.lines().zip(kept.lines()).find(|(a, b)| a != b);
    assert!(
        made == kept,
        "docs/operations.md is not what the tables say (KEOPS_BLESS=1): {line:?}"
    );
}

/// Operations whose derivative is a convention somewhere are those that semantics.md names, with the
/// value that it gives: both ways, so that neither list can be short.
#[test]
fn conventions_are_documented() {
    use keops_core::graph::{Builder, Category, Node};
    use keops_core::outer::Formula;
    let text = read("docs/semantics.md");
    let table = text.split("## Derivatives at kinks").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows: Vec<&str> = table.lines().filter(|l| l.starts_with("| `")).collect();
    let named = |name: &str| rows.iter().any(|r| r.contains(&format!("`{name}")));
    let mut found = vec![];
    for op in ops::ALL {
        let b = Builder::default();
        let x: Vec<_> = (0..op.arity).map(|_| b.fresh(1, Category::I).id).collect();
        let root = b.node(Node::Map { op, args: x }).id;
        let vars = b.graph().variables(&[root]);
        let names = ["x", "y", "z"][..op.arity].iter().map(|s| s.to_string()).collect();
        let graph = b.into_graph().into();
        let conventions = Formula { graph, root, weight: None, vars, names }.conventions();
        if !conventions.is_empty() {
            found.push(op.name);
        }
        for c in conventions {
            assert!(op.kinks.contains(&c.at) && c.operation == op.name, "{c}");
            assert!(c.to_string().starts_with(&format!("{}(x", op.name)) || op.arity > 1, "{c}");
        }
    }
    for must in ["Sqrt", "Rsqrt", "Abs", "ReLU", "Floor", "XLogX", "Powf", "Atan2", "MaternHalf"] {
        assert!(found.contains(&must), "{must} is not among {found:?}");
    }
    for smooth in ["Exp", "SinXDivX", "CosSqrt", "SincSqrt", "Mult"] {
        assert!(!found.contains(&smooth), "{smooth} is smooth");
    }
    let missing: Vec<_> = found.iter().filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "docs/semantics.md does not name {missing:?}");
}

/// Every entry says what it is, and no two have one name.
#[test]
fn entries_are_complete() {
    let mut names: Vec<&str> = vec![];
    for (name, doc) in ops::ALL
        .iter()
        .map(|o| (o.name, o.doc))
        .chain(composite::ALL.iter().map(|c| (c.name, c.doc)))
    {
        assert!(!doc.is_empty() && !doc.contains('\n'), "{name}: {doc}");
        assert!(!names.contains(&name), "{name} is there twice");
        names.push(name);
    }
    for o in ops::ALL {
        assert!(o.domain.0 < o.domain.1, "{}: {:?}", o.name, o.domain);
        assert!(o.ulps >= 0.0 && o.ulps.is_finite(), "{}: {}", o.name, o.ulps);
    }
    let mut spellings: Vec<&str> = vec![];
    for r in reduce::all() {
        for s in r.spellings().iter().chain([&r.name()]) {
            assert!(!spellings.contains(s), "{s} names two reductions");
            spellings.push(s);
        }
    }
}

/// The static items of a source file whose type is `kind`: name and text.
fn statics(source: &str, kind: &str) -> Vec<(String, String)> {
    let mut out = vec![];
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let Some((name, rest)) = line.strip_prefix("pub static ").and_then(|l| l.split_once(": "))
        else {
            continue;
        };
        if !rest.starts_with(&format!("{kind} = ")) {
            continue;
        }
        let mut text = vec![line];
        if !line.ends_with(';') {
            text.extend(lines.by_ref().take_while(|l| *l != "};"));
            text.push("};");
        }
        out.push((name.to_string(), text.join("\n")));
    }
    out
}

fn budget(file: &str, kind: &str, most: usize) -> Vec<(String, String)> {
    let all = statics(&read(file), kind);
    for (name, text) in &all {
        let lines = text.lines().count();
        assert!(lines <= most, "{name} in {file} has {lines} lines, the budget is {most}");
    }
    all
}

/// A guide shows an entry as it is, and one that is there.
fn shows(guide: &str, entries: &[(String, String)]) {
    let text = read(guide);
    let shown = entries.iter().filter(|(_, entry)| text.contains(entry.as_str())).count();
    assert!(shown > 0, "{guide} shows no entry of the source as it is");
}

/// The files of the table of operations.
fn operation_files() -> Vec<String> {
    let mut files = vec!["crates/keops-core/src/ops.rs".to_string()];
    for path in fs::read_dir(root("crates/keops-core/src/ops")).unwrap() {
        let name = path.unwrap().file_name().into_string().unwrap();
        files.push(format!("crates/keops-core/src/ops/{name}"));
    }
    files
}

#[test]
fn an_operation_is_one_entry_of_16_lines() {
    let all: Vec<_> = operation_files().iter().flat_map(|f| budget(f, "OpDef", 16)).collect();
    assert_eq!(all.len(), ops::ALL.len(), "{all:?}");
    shows("docs/adding-an-operation.md", &all);
}

/// The files of composites, and the entries of their tables: name and text.
fn composites() -> (Vec<String>, Vec<(String, String)>) {
    let (mut files, mut entries) = (vec![], vec![]);
    for path in fs::read_dir(root("crates/keops-core/src/composite")).unwrap() {
        let name = path.unwrap().file_name().into_string().unwrap();
        let file = format!("crates/keops-core/src/composite/{name}");
        let source = read(&file);
        let table = source.split("const ALL: &[CompositeDef] = &[\n").nth(1).unwrap_or_default();
        let table = table.split("\n];").next().unwrap_or_default();
        for entry in table.split("    entry(").filter(|e| e.contains('"')) {
            let name = entry.split('"').nth(1).unwrap_or_default().to_string();
            entries.push((name, format!("    entry({}", entry.trim_end())));
        }
        if !table.is_empty() {
            files.push(file);
        }
    }
    (files, entries)
}

#[test]
fn a_composite_is_one_entry_of_8_lines() {
    let (_, entries) = composites();
    assert_eq!(entries.len(), composite::ALL.len());
    let long = entries.iter().filter(|(_, text)| text.lines().count() > 8);
    let long: Vec<_> = long.map(|(name, _)| name).collect();
    assert!(long.is_empty(), "composites of more than 8 lines: {long:?}");
    shows("docs/adding-an-operation.md", &entries);
}

/// With its line in the list of all: 20. Where it is made of others 12, and its name in a line that is there.
#[test]
fn a_reduction_is_one_entry_of_20_lines() {
    let all = budget("crates/keops-core/src/reduce.rs", "ReductionDef", 19);
    assert!(all.len() >= 3, "{all:?}");
    shows("docs/adding-a-reduction.md", &all);
    let derived = budget("crates/keops-core/src/reduce/derived.rs", "DerivedDef", 12);
    assert_eq!(derived.len(), reduce::DERIVED.len(), "{derived:?}");
}

/// Source files of all crates with their code: without comments, tests, and what judges the tables.
fn sources() -> Vec<(String, String)> {
    let mut found = vec![];
    let mut stack = vec![root("crates"), root("src")];
    while let Some(dir) = stack.pop() {
        for path in fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()) {
            let name = path.strip_prefix(root("")).unwrap().to_string_lossy().into_owned();
            let judge = ["test", "bench", "keops-judge", "conformance", "target", "examples"];
            if judge.iter().any(|part| name.contains(part)) {
                continue;
            }
            if path.is_dir() {
                stack.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod").next().unwrap_or_default();
                let code = code.lines().filter(|l| !l.trim_start().starts_with("//"));
                found.push((name, code.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(found.len() > 150, "{} files", found.len());
    found
}

/// Does code name an entry, by its identifier or its name in formulas?
fn names(code: &str, identifier: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.contains(&format!("\"{name}\""))
        || code.match_indices(identifier).any(|(at, _)| {
            !code[..at].ends_with(word) && !code[at + identifier.len()..].starts_with(word)
        })
}

/// A contributor touches the file of the entry and the generated page, and no other: a file that names a third
/// of a table would be a second list that an entry has to stand in. (Methods of LazyTensors and the prelude
/// are conveniences: an entry without them serves in formulas, and some have none.)
#[test]
fn there_is_no_second_list() {
    let conveniences = ["lazy/methods.rs", "lazy/reductions.rs", "src/lib.rs"];
    let sources = sources();
    let one = |file: &str| vec![format!("crates/keops-core/src/{file}")];
    let tables = [
        (operation_files(), "OpDef"),
        (one("reduce.rs"), "ReductionDef"),
        (one("reduce/derived.rs"), "DerivedDef"),
    ];
    let tables = tables.map(|(files, kind)| {
        let entries = files.iter().flat_map(|f| statics(&read(f), kind));
        let named = entries.map(|(id, text)| {
            let name = text.split('"').nth(1).unwrap_or_default().to_string();
            (id, name)
        });
        let named: Vec<_> = named.collect();
        (files, kind, named)
    });
    let (files, entries) = composites();
    // (They have no identifiers.)
    let entries = entries.into_iter().map(|(name, _)| (format!("\"{name}\""), name)).collect();
    for (files, kind, entries) in tables.into_iter().chain([(files, "CompositeDef", entries)]) {
        let named = |code: &str| entries.iter().filter(|(id, name)| names(code, id, name)).count();
        for file in &files {
            let own = sources.iter().find(|(f, _)| f == file).map(|(_, code)| named(code));
            assert!(own > Some(0), "{file} was not read");
        }
        // (All of a small table may be used by others for what they compute: sums are.)
        let most = (entries.len() / 3).max(2);
        let seconds = sources.iter().filter(|(file, code)| {
            let known = files.contains(file) || conveniences.iter().any(|c| file.ends_with(c));
            !known && named(code) > most
        });
        let seconds: Vec<_> = seconds.map(|(file, _)| file).collect();
        assert!(seconds.is_empty(), "{kind}: second lists in {seconds:?}");
        let bare = entries.iter().filter(|(id, name)| {
            let has = |(f, code): &&(String, String)| {
                f.ends_with("lazy/methods.rs") && names(code, id, name)
            };
            !sources.iter().any(|s| has(&s))
        });
        assert!(bare.count() > 0, "{kind}: does an entry need a method?");
    }
}

/// Code generators know no operation and no reduction by a string.
#[test]
fn backends_name_nothing_of_the_tables() {
    let names: Vec<String> = (ops::ALL.iter().map(|o| o.name))
        .chain(composite::ALL.iter().map(|c| c.name))
        .chain(reduce::all().map(|r| r.name()))
        .map(|name| format!("\"{name}\""))
        .collect();
    let mut found = vec![];
    let mut stack = vec![root("crates/keops-cpu/src"), root("crates/keops-cuda/src")];
    while let Some(dir) = stack.pop() {
        for path in fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()) {
            // (Tests compute something, and so name what they compute.)
            if path.to_string_lossy().contains("test") {
                continue;
            }
            if path.is_dir() {
                stack.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]\nmod").next().unwrap_or_default();
            let named = |l: &&str| names.iter().any(|n| l.contains(n.as_str()));
            found.extend(code.lines().filter(named).map(|l| format!("{}: {l}", path.display())));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
