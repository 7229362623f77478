#[path = "tower/cases.rs"]
mod cases;
#[path = "tower/naive.rs"]
mod naive;
use cases::*;
use microtome_kernels::network::vector::Path;

#[test]
fn probe() {
    for (counts, n) in [(12..=100_000, 2000), (1..=11, 1000)] {
        let mut rng = random(1);
        let mut all: Vec<Vec<(f64, String)>> = vec![vec![]; 8];
        let mut inf = vec![];
        let start = std::time::Instant::now();
        for _ in 0..n {
            let case = Case::random(&mut rng, counts.clone());
            let expected = Expected::of(&case);
            let ni = case.naive_inference();
            for path in Path::available() {
                let e = expected.errors(&case.train_on(path)).all();
                for k in 0..8 { all[k].push((e[k], case.describe(path))); }
                let found = case.folded().apply_on(path, &case.picture, case.shape);
                inf.push((error(&found, &ni, largest(&ni)), case.describe(path)));
            }
        }
        println!("{:?} {counts:?}", start.elapsed());
        all.push(inf);
        for v in &mut all {
            v.sort_by(|a, b| b.0.total_cmp(&a.0));
            println!("median {:.1e} p99 {:.1e}", v[v.len() / 2].0, v[v.len()/100].0);
            for i in 0..4 { println!("   {:.2e} {}", v[i].0, v[i].1); }
        }
    }
}
