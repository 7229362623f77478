//! Clusters as an array group of the project.

use super::{Clusters, NAME, Quality};
use crate::arrays::{Group, GroupWriter};
use crate::context::Context;
use crate::project::Project;
use microtome_vault::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Puts clusters in place of those that are there.
pub(super) fn write(project: &Project, clusters: &Clusters) -> Result<()> {
    let group = GroupWriter::create(&project.array(NAME))?;
    let (count, tiles) = (clusters.count(), clusters.assignment.len());
    group.write("centroids", &[count, clusters.dimensions], &["cluster", "feature"], &clusters.centroids)?;
    group.write("assignment", &[tiles], &["tile"], &clusters.assignment)?;
    group.write("cosine", &[tiles], &["tile"], &clusters.cosine)?;
    for (level, centroids) in &clusters.of_other_levels {
        let shape = [count, centroids.len() / count.max(1)];
        group.write(&name_of(*level), &shape, &["cluster", "feature"], centroids)?;
    }
    let quality = |of: &Quality| json!({"tiles": of.tiles, "slides": of.slides, "compactness": of.compactness, "stability": of.stability});
    let names: Vec<String> = project.slides()?.into_iter().map(|slide| slide.name).collect();
    group.finish(&json!({
        "key": clusters.key,
        "made_from": clusters.made_from,
        "other_levels": clusters.of_other_levels.keys().collect::<Vec<_>>(),
        "inertia": clusters.inertia,
        "slides": names,
        "tiles_of_slide": clusters.tiles_of_slide,
        "quality": clusters.quality.iter().map(quality).collect::<Vec<Value>>(),
    }))?;
    Ok(())
}

/// The array with the centroids of another level.
fn name_of(level: usize) -> String {
    format!("centroids_level{level}")
}

/// The project's clusters, whatever they were made from.
///
/// # Errors
/// `Input` when they are damaged; `Limit`; `Io`.
pub fn read(project: &Project, context: &Context<'_>) -> Result<Option<Clusters>> {
    let path = project.array(NAME);
    let Some(group) = Group::open(&path)? else { return Ok(None) };
    // Those of an older version are made anew.
    let Some(made_from) = group.text("made_from").map(str::to_owned) else { return Ok(None) };
    let broken = || {
        Error::input("what is said of the clusters is damaged")
            .advise("remove the folder and run `microtome tissue cluster` again")
            .at(&path)
    };
    let centroids = group.read::<f32>("centroids", context.budget)?;
    let number = |value: &Value, key: &str| value.get(key).and_then(Value::as_f64);
    let quality = |value: &Value| {
        Some(Quality {
            tiles: number(value, "tiles")? as usize,
            slides: number(value, "slides")? as usize,
            compactness: number(value, "compactness")?,
            stability: number(value, "stability"),
        })
    };
    let list = |key: &str| group.attributes.get(key).and_then(Value::as_array).ok_or_else(broken);
    let count = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
    let mut of_other_levels = BTreeMap::new();
    for level in list("other_levels")? {
        let level = count(level).ok_or_else(broken)?;
        of_other_levels.insert(level, group.read::<f32>(&name_of(level), context.budget)?.values);
    }
    let clusters = Clusters {
        made_from,
        of_other_levels,
        key: group.text("key").ok_or_else(broken)?.to_owned(),
        dimensions: *centroids.shape.get(1).ok_or_else(broken)?,
        centroids: centroids.values,
        assignment: group.read::<u32>("assignment", context.budget)?.values,
        cosine: group.read::<f32>("cosine", context.budget)?.values,
        tiles_of_slide: list("tiles_of_slide")?
            .iter()
            .map(count)
            .collect::<Option<_>>()
            .ok_or_else(broken)?,
        quality: list("quality")?.iter().map(quality).collect::<Option<_>>().ok_or_else(broken)?,
        inertia: number(&group.attributes, "inertia").ok_or_else(broken)?,
    };
    let tiles: usize = clusters.tiles_of_slide.iter().sum();
    let is_whole = clusters.assignment.len() == tiles
        && clusters.cosine.len() == tiles
        && clusters.quality.len() == clusters.count()
        && clusters.assignment.iter().all(|cluster| (*cluster as usize) < clusters.count());
    if is_whole { Ok(Some(clusters)) } else { Err(broken()) }
}
