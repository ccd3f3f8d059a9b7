//! Help with misspelt names.

/// The name that differs least from a misspelt one: in case, or in at most two letters.
pub(super) fn closest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let distance = |other: &str| {
        if name.eq_ignore_ascii_case(other) {
            return 0;
        }
        let (a, b): (Vec<char>, Vec<char>) = (name.chars().collect(), other.chars().collect());
        if a.len().abs_diff(b.len()) > 2 {
            return usize::MAX;
        }
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (k, x) in a.iter().enumerate() {
            let mut diagonal = std::mem::replace(&mut row[0], k + 1);
            for (l, y) in b.iter().enumerate() {
                let replace = diagonal + (x != y) as usize;
                diagonal = row[l + 1];
                row[l + 1] = replace.min(diagonal + 1).min(row[l] + 1);
            }
        }
        row[b.len()]
    };
    let allowed = (name.chars().count() / 3).min(2);
    names.map(|n| (distance(n), n)).filter(|(d, _)| *d <= allowed).min().map(|(_, n)| n)
}
