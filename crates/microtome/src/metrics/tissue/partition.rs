//! How well clusters and classes of the same things agree: measures of the literature, none of which asks what a cluster is
//! called.

/// Agreement of a clustering with classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Normalised mutual information, by the arithmetic mean of the entropies.
    pub nmi: f64,
    /// Adjusted Rand index (Hubert & Arabie 1985).
    pub ari: f64,
    /// Fowlkes & Mallows (1983).
    pub fowlkes_mallows: f64,
    /// Share that is right under the best pairing of clusters with classes, one to one.
    pub one_to_one_accuracy: f64,
}

/// The agreement of two partitions of the same things.
pub fn agreement(clusters: &[u32], classes: &[u32]) -> Agreement {
    let count = |of: &[u32]| of.iter().max().map_or(0, |most| *most as usize + 1);
    let (rows, columns) = (count(clusters), count(classes));
    let mut table = vec![0.0f64; rows * columns];
    for (cluster, class) in clusters.iter().zip(classes) {
        table[*cluster as usize * columns + *class as usize] += 1.0;
    }
    let n = clusters.len() as f64;
    let of_rows: Vec<f64> = (0..rows).map(|row| table[row * columns..][..columns].iter().sum()).collect();
    let of_columns: Vec<f64> =
        (0..columns).map(|column| (0..rows).map(|row| table[row * columns + column]).sum()).collect();
    let pairs = |counts: &[f64]| counts.iter().map(|count| count * (count - 1.0) / 2.0).sum::<f64>();
    let (both, in_rows, in_columns) = (pairs(&table), pairs(&of_rows), pairs(&of_columns));
    let all = (n * (n - 1.0) / 2.0).max(1.0);
    let expected = in_rows * in_columns / all;
    let most = (in_rows + in_columns) / 2.0;
    let ratio = |part: f64, whole: f64, without: f64| if whole == 0.0 { without } else { part / whole };
    let entropy = |counts: &[f64]| -> f64 {
        counts.iter().filter(|count| **count > 0.0).map(|count| -count / n * (count / n).ln()).sum()
    };
    let mutual: f64 = (0..rows * columns)
        .filter(|at| table[*at] > 0.0)
        .map(|at| {
            let (row, column) = (at / columns, at % columns);
            table[at] / n * (table[at] * n / (of_rows[row] * of_columns[column])).ln()
        })
        .sum();
    Agreement {
        nmi: ratio(mutual, (entropy(&of_rows) + entropy(&of_columns)) / 2.0, 1.0).clamp(0.0, 1.0),
        ari: ratio(both - expected, most - expected, 1.0),
        fowlkes_mallows: ratio(both, (in_rows * in_columns).sqrt(), 0.0),
        one_to_one_accuracy: best_pairing(&table, rows, columns) / n.max(1.0),
    }
}

/// The largest sum of entries of which no two share a row or a column, by the Hungarian method (Kuhn 1955, with the potentials
/// of Jonker & Volgenant).
fn best_pairing(table: &[f64], rows: usize, columns: usize) -> f64 {
    let n = rows.max(columns);
    let cost = |row: usize, column: usize| {
        if row < rows && column < columns { -table[row * columns + column] } else { 0.0 }
    };
    // Numbered from 1; column 0 is where a search begins.
    let (mut of_row, mut of_column) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let mut row_of = vec![0usize; n + 1];
    for row in 1..=n {
        row_of[0] = row;
        let (mut slack, mut from) = (vec![f64::INFINITY; n + 1], vec![0usize; n + 1]);
        let mut is_done = vec![false; n + 1];
        let mut column = 0;
        while row_of[column] != 0 {
            is_done[column] = true;
            let own = row_of[column];
            let (mut least, mut next) = (f64::INFINITY, 0);
            for other in (1..=n).filter(|other| !is_done[*other]) {
                let reduced = cost(own - 1, other - 1) - of_row[own] - of_column[other];
                if reduced < slack[other] {
                    (slack[other], from[other]) = (reduced, column);
                }
                if slack[other] < least {
                    (least, next) = (slack[other], other);
                }
            }
            for other in 0..=n {
                if is_done[other] {
                    of_row[row_of[other]] += least;
                    of_column[other] -= least;
                } else {
                    slack[other] -= least;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[from[column]];
            column = from[column];
        }
    }
    (1..=n).map(|column| -cost(row_of[column] - 1, column - 1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_scikit_learn() {
        // scikit-learn 1.9.1: normalized_mutual_info_score, adjusted_rand_score, fowlkes_mallows_score; and SciPy's
        // linear_sum_assignment on the contingency matrix.
        let clusters = [0, 0, 1, 1, 2, 2, 2, 3, 3, 0, 1, 2];
        let classes = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 0, 1];
        let found = agreement(&clusters, &classes);
        let expected = Agreement {
            nmi: 0.623_517_623_8,
            ari: 0.428_924_598_3,
            fowlkes_mallows: 0.572_656_286_7,
            one_to_one_accuracy: 0.666_666_666_7,
        };
        for (ours, theirs) in [
            (found.nmi, expected.nmi),
            (found.ari, expected.ari),
            (found.fowlkes_mallows, expected.fowlkes_mallows),
            (found.one_to_one_accuracy, expected.one_to_one_accuracy),
        ] {
            assert!((ours - theirs).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn a_partition_agrees_with_itself_under_any_names() {
        let found = agreement(&[0, 0, 1, 2, 2], &[4, 4, 0, 1, 1]);
        assert!((found.nmi - 1.0).abs() < 1e-12 && (found.ari - 1.0).abs() < 1e-12);
        assert_eq!((found.fowlkes_mallows, found.one_to_one_accuracy), (1.0, 1.0));
    }

    #[test]
    fn the_best_pairing_is_the_best_of_all() {
        let mut state = 3u32;
        for _ in 0..300 {
            let mut next = |below: u32| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 10) % below
            };
            let (rows, columns) = (1 + next(4) as usize, 1 + next(4) as usize);
            let table: Vec<f64> = (0..rows * columns).map(|_| f64::from(next(20))).collect();
            fn all(table: &[f64], columns: usize, row: usize, used: &mut Vec<bool>) -> f64 {
                if row * columns >= table.len() {
                    return 0.0;
                }
                let mut best = all(table, columns, row + 1, used);
                for column in 0..columns {
                    if !used[column] {
                        used[column] = true;
                        best = best.max(table[row * columns + column] + all(table, columns, row + 1, used));
                        used[column] = false;
                    }
                }
                best
            }
            let expected = all(&table, columns, 0, &mut vec![false; columns]);
            assert_eq!(best_pairing(&table, rows, columns), expected, "{rows}×{columns} {table:?}");
        }
    }
}
