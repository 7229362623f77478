//! How fast an encoder is taught here, views and all:
//!
//!     cargo run --release -p microtome-nets --example simclr_speed -- resnet18 paper 64 6
//!
//! architecture, recipe (paper or ours), tiles of a step, steps. Prints the seconds of each step after the first.

use microtome_kernels::views::stain::StainStatistics;
use microtome_nets::resnet::Architecture;
use microtome_nets::simclr::{Recipe, TrainingTiles, train};
use microtome_nets::training::{Checkpoint, Observer, Step};
use microtome_vault::Result;
use std::time::Instant;

const SIDE_PX: usize = 128;

struct Watch {
    last: Instant,
}

impl Observer for Watch {
    fn stepped(&mut self, step: Step, done: usize, _: usize) {
        let now = Instant::now();
        if done > 1 {
            println!("{:.4} {:.4}", (now - self.last).as_secs_f64(), step.loss);
        }
        self.last = now;
    }
    fn epoch_ended(&mut self, _: &Checkpoint) -> Result<()> {
        Ok(())
    }
    fn cancelled(&self) -> bool {
        false
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let architecture = Architecture::named(&arguments[0]).expect("an architecture");
    let recipe =
        if arguments[1] == "paper" { Recipe::paper(architecture) } else { Recipe::ours(architecture) };
    let number = |index: usize| arguments[index].parse::<usize>().expect("a number");
    let (batch, steps) = (number(2), number(3));
    let rgb: Vec<u8> = (0..batch * 3 * SIDE_PX * SIDE_PX).map(|at| (at * 7919 % 251) as u8).collect();
    let statistics = [StainStatistics { mean: [0.3; 3], deviation: [0.2; 3] }];
    let tiles = TrainingTiles::new(SIDE_PX, &rgb, &statistics, vec![0; batch]);
    let recipe = Recipe { batch, epochs: steps, patience: None, ..recipe };
    train(&tiles, &recipe, 1, None, &mut Watch { last: Instant::now() })?;
    Ok(())
}
