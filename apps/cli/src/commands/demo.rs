//! `microtome demo`: the bundled pictures, cut and scored.

use super::{conclude, with_context};
use crate::output::{say, say_line};
use microtome::nuclei::config::ConfigFile;
use microtome::nuclei::run::{Request, run};
use microtome::nuclei::slide::segment::SlideRequest;
use microtome::{Budget, Result, disk, metrics};
use std::path::Path;
use std::process::ExitCode;

/// Real pictures of the 2018 Data Science Bowl (CC0) and the nuclei that people drew in them.
const PICTURES: [(&str, &[u8], &[u8]); 6] =
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/pictures.rs.in"));

pub(super) fn demo(out: &Path, budget: Budget) -> Result<ExitCode> {
    let (pictures, truth, results) = (out.join("pictures"), out.join("truth"), out.join("nuclei"));
    unpack(&pictures, &truth)?;
    let request = Request {
        pictures: vec![pictures],
        mpp: None,
        config: ConfigFile::default(),
        tissue: None,
        slides: SlideRequest::default(),
        command: "microtome demo".to_owned(),
    };
    let outcome = with_context(1, budget, |context| run(&request, &results, context))?;
    let evaluation = metrics::evaluate(&microtome::truth::pair(&results, &truth)?)?;
    say_line!("\nNo label was used. Scored afterwards against what people drew:");
    say!("{}", metrics::table::summary(&evaluation));
    say_line!("\noutlines on the pictures: {}", results.join("overlays").display());
    conclude(&outcome)
}

fn unpack(pictures: &Path, truth: &Path) -> Result<()> {
    disk::create_folder_all(pictures)?;
    disk::create_folder_all(truth)?;
    for (name, picture, drawn) in PICTURES {
        disk::write_atomic(pictures.join(format!("{name}.png")), picture)?;
        disk::write_atomic(truth.join(format!("{name}.png")), drawn)?;
    }
    Ok(())
}
