//! Where a project stands: what is done, what is stale, what comes next.

use super::clusters;
use super::tiles::{self, TileList};
use super::{embed, pretrain};
use crate::arrays::Group;
use crate::context::Context;
use crate::project::Project;
use crate::project::database::Origin;
use microtome_vault::Result;

/// A line for each stage, and the command that comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Name of a stage and how it stands.
    pub lines: Vec<(&'static str, String)>,
    /// The command that comes next.
    pub next: String,
}

/// Looks at every stage.
///
/// # Errors
/// `Input` when something is damaged.
pub fn status(project: &Project, context: &Context<'_>) -> Result<Status> {
    let root = project.root.display();
    let slides = project.database.slides()?;
    let mut lines = vec![("slides", slides.len().to_string())];
    let mut next: Option<String> = None;
    let mut then = |command: String| {
        next.get_or_insert(command);
    };
    if slides.is_empty() {
        then(format!("microtome project add {root} FILES"));
    }
    let lists: Vec<Option<TileList>> =
        slides.iter().map(|slide| tiles::read(project, slide, context)).collect::<Result<_>>()?;
    let listed: Vec<&TileList> = lists.iter().flatten().collect();
    let count: usize = listed.iter().map(|list| list.corners_px.len()).sum();
    lines.push(("tiles", format!("{count}, in {} of {} slides", listed.len(), slides.len())));
    if listed.len() < slides.len() {
        then(tiles::command(project));
    }
    let owned: Vec<TileList> = listed.into_iter().cloned().collect();
    let encoder = pretrain::encoder(project).ok();
    let is_current = owned.len() == slides.len() && pretrain::is_current(project, &owned)?;
    lines.push((
        "encoder",
        match (&encoder, is_current) {
            (None, _) => "none".to_owned(),
            (Some(encoder), true) => encoder.kind.clone(),
            (Some(encoder), false) => format!("{}, stale: of other tiles or settings", encoder.kind),
        },
    ));
    if !is_current {
        then(format!("microtome tissue pretrain {root}"));
    }
    let mut embedded = 0;
    if let Some(encoder) = &encoder {
        for (slide, list) in slides.iter().zip(&lists) {
            let Some(list) = list else { continue };
            let key = embed::key_of(list, encoder);
            let group = Group::open(&project.array_of("embeddings", &slide.name))?;
            let is_done = group.is_some_and(|group| group.text("key") == Some(&key));
            embedded += usize::from(is_done || list.corners_px.is_empty());
        }
    }
    lines.push(("embeddings", format!("{embedded} of {} slides", slides.len())));
    if embedded < slides.len() {
        then(format!("microtome tissue embed {root}"));
    }
    let found = clusters::read(project, context)?;
    let Some(found) = found else {
        lines.push(("clusters", "none".to_owned()));
        then(format!("microtome tissue cluster {root}"));
        return Ok(Status { lines, next: next.unwrap_or_default() });
    };
    let is_of_these = match &encoder {
        Some(encoder) if embedded == slides.len() && !slides.is_empty() => {
            found.is_current(project, encoder, context)?
        }
        _ => false,
    };
    let stale = if is_of_these { "" } else { ", stale: of other tiles, embeddings or settings" };
    lines.push(("clusters", format!("{}{stale}", found.filled())));
    if !is_of_these {
        then(format!("microtome tissue cluster {root}"));
    }
    let namings = project.database.namings(&found.key)?;
    let named = namings.iter().filter(|naming| naming.class.is_some()).count();
    let rejected = namings.len() - named;
    let by_oracle = namings.iter().any(|naming| naming.origin == Origin::Oracle);
    let by = if by_oracle { ", by an oracle: an experiment" } else { "" };
    lines.push(("names", format!("{named} of {} clusters, {rejected} rejected{by}", found.filled())));
    if named == 0 {
        then(format!("microtome tissue name {root} --from {root}/out/clusters/names.csv"));
    }
    then(format!("microtome tissue query {root} --out OUT"));
    Ok(Status { lines, next: next.unwrap_or_default() })
}
