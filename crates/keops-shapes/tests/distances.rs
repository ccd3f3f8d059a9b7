//! Distances of shapes of the literature against reference values computed elsewhere.

use std::path::Path;

use keops_shapes::distance::distances;
use keops_shapes::io::read_shape;

/// The reference registrations give mean vertex-to-surface distances and the Hausdorff distance
/// before registration.
#[test]
fn reference_distances() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    for (case, source, target) in [
        (
            "reg_hippos68_tutorial",
            "hippos/hippos_reduc_reduc_source.ply",
            "hippos/hippos_reduc_reduc_target.ply",
        ),
        (
            "reg_skull_template_australopithecus",
            "skulls/template.vtk",
            "skulls/skull_australopithecus.vtk",
        ),
    ] {
        let path = shared.join(format!("golden/lddmm/{case}.json"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: ../shared/golden/lddmm/{case}.json is absent");
            continue;
        };
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        let read = |name: &str| read_shape(shared.join("data").join(name)).unwrap().0;
        let d = distances(&read(source), &read(target)).unwrap();
        let before = &golden["before"];
        for (name, got) in [
            ("mean_src2tgt", d.forward.mean),
            ("mean_tgt2src", d.backward.mean),
            ("hausdorff", d.hausdorff()),
        ] {
            let expected = before[name].as_f64().unwrap();
            assert!((got / expected - 1.0).abs() < 1e-12, "{case} {name}: {got}, not {expected}");
        }
    }
}
