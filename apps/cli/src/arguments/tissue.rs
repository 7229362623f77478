//! What can be asked for about projects and tissue.

use clap::{Args, Subcommand};
use microtome::tissue::names::Shown;
use microtome::tissue::query::Method;
use microtome::truth::class_mask::ClassCodes;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommands {
    /// Make a project in a new folder
    Init {
        /// The folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// What tissue can be, with commas between; the first is 0 in masks
        #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
        classes: Vec<String>,
        /// Fixes everything that chance decides
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Add slides and pictures
    Add {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Slides and pictures: files, folders or globs
        #[arg(required = true, value_name = "FILES")]
        files: Vec<PathBuf>,
    },
    /// What is done, what is stale, what comes next
    Status {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TissueCommands {
    /// List the tiles of each slide
    Tile {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Side of a tile, in pixels: what a person is shown
        #[arg(long, value_name = "PX")]
        side: Option<usize>,
        /// From one tile to the next, in pixels
        #[arg(long, value_name = "PX")]
        step: Option<usize>,
        /// Side of the part in the middle that a name is about, in pixels
        #[arg(long, value_name = "PX")]
        named: Option<usize>,
        /// Resolution of the tiles, in µm per pixel; that of level 0 without it
        #[arg(long, value_name = "UM")]
        mpp: Option<f64>,
        /// Share of tissue that a tile has at least
        #[arg(long, value_name = "SHARE")]
        least_tissue: Option<f64>,
    },
    /// Teach the encoder on the tiles, without labels
    Pretrain {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// small, texture (36 numbers made by hand, no learning), resnet18, resnet34, resnet50, or a file: safetensors, pth, onnx
        #[arg(long, value_name = "KIND")]
        encoder: Option<String>,
        /// The paper's recipe, exactly: for a graphics card and a night
        #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "YES")]
        paper: Option<bool>,
        /// Passes over the tiles; 0 leaves a network untaught
        #[arg(long, value_name = "N")]
        epochs: Option<usize>,
        /// Tiles of a step
        #[arg(long, value_name = "N")]
        batch: Option<usize>,
        /// Tiles of a step that are in memory at a time: large batches on small machines, whose tiles are seen twice
        #[arg(long, value_name = "N")]
        tiles_at_once: Option<usize>,
    },
    /// Give each tile its vector
    Embed {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
    },
    /// Take tiles and their vectors from HDF5 files, as TRIDENT and CLAM write them
    Import {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Folder with a file for each slide, named like it (NAME.h5)
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// Side of the tiles in pixels of level 0, over what the files say
        #[arg(long, value_name = "PX")]
        side: Option<usize>,
    },
    /// Write tiles and their vectors as HDF5 files, in the layout of TRIDENT and CLAM
    Export {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Folder for the files, one a slide
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
    /// Try numbers of clusters, and say which we would take, and why
    Advise {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// The numbers, with commas between
        #[arg(long, value_name = "K,K,...", value_delimiter = ',', default_value = "8,12,16,20,25,30,40,50")]
        ks: Vec<usize>,
    },
    /// Put tiles together that are alike, and show them
    Cluster {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Clusters
        #[arg(long, value_name = "K")]
        k: Option<usize>,
        /// Times that the search begins anew; the best is taken
        #[arg(long, value_name = "N")]
        restarts: Option<usize>,
        /// Go back to the clusters as they were found, before any was split or merged
        #[arg(long)]
        without_edits: bool,
        /// Which tiles of a cluster are shown: top:10 or sample:10
        #[arg(long, value_name = "WHICH", default_value = "sample:10")]
        shown: Shown,
    },
    /// Take a cluster apart; the others keep their numbers and names
    Split {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Number of the cluster
        #[arg(long, value_name = "N")]
        cluster: usize,
        /// How many parts
        #[arg(long, value_name = "N", default_value_t = 2)]
        into: usize,
        /// Which tiles of a cluster are shown: top:10 or sample:10
        #[arg(long, value_name = "WHICH", default_value = "sample:10")]
        shown: Shown,
    },
    /// Put clusters together under the lowest of their numbers; the others keep their numbers and names
    Merge {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Numbers of the clusters, with commas between
        #[arg(long, required = true, value_name = "N,N,...", value_delimiter = ',')]
        clusters: Vec<usize>,
        /// Which tiles of a cluster are shown: top:10 or sample:10
        #[arg(long, value_name = "WHICH", default_value = "sample:10")]
        shown: Shown,
    },
    /// Draw a map on which tiles that are alike lie side by side (t-SNE)
    Map {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Tiles on it, at most, spread evenly
        #[arg(long, value_name = "N", default_value_t = 4000)]
        tiles: usize,
    },
    /// Say what clusters are
    Name {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        #[command(flatten)]
        source: NameSource,
        /// Its class
        #[arg(long, value_name = "CLASS", requires = "cluster", required_unless_present_any = ["from", "oracle", "reject"])]
        class: Option<String>,
        /// Leave the cluster out
        #[arg(long, requires = "cluster", conflicts_with = "class")]
        reject: bool,
        /// Share of what is shown that is of the class
        #[arg(long, value_name = "SHARE", default_value_t = 1.0, requires = "cluster")]
        share: f64,
        #[command(flatten)]
        oracle: OracleArguments,
    },
    /// Ask the named clusters about every place of the project's slides
    Query {
        /// The project's folder
        #[arg(value_name = "DIR")]
        project: PathBuf,
        /// Folder for the masks; the same command again goes on where it stopped
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        query: QueryArguments,
    },
    /// Apply a dictionary of named clusters to other slides
    Apply {
        /// The dictionary: models/dictionary.safetensors of a project
        #[arg(value_name = "DICTIONARY")]
        dictionary: PathBuf,
        /// Slides and pictures: files, folders or globs
        #[arg(required = true, value_name = "FILES")]
        files: Vec<PathBuf>,
        /// Folder for the masks; the same command again goes on where it stopped
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Resolution of level 0 of all slides, in µm per pixel, over what their files say
        #[arg(long, value_name = "UM")]
        mpp: Option<f64>,
        #[command(flatten)]
        query: QueryArguments,
    },
}

/// Where names come from.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct NameSource {
    /// Table with the columns cluster and class, and maybe share: out/clusters/names.csv, filled in
    #[arg(long, value_name = "CSV")]
    pub(crate) from: Option<PathBuf>,
    /// Number of the cluster
    #[arg(long, value_name = "N")]
    pub(crate) cluster: Option<usize>,
    /// For experiments only: name clusters after masks that people drew, in this folder; marked everywhere
    #[arg(long, value_name = "MASKS")]
    pub(crate) oracle: Option<PathBuf>,
}

/// How an oracle names.
#[derive(Args, Debug)]
pub(crate) struct OracleArguments {
    /// Which tiles of a cluster the oracle looks at: top:10 or sample:10
    #[arg(long, value_name = "WHICH", default_value = "top:10")]
    pub(crate) shown: Shown,
    /// Share of the shown tiles that must have the class, else the cluster is left out
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    pub(crate) purity: f64,
    /// What the oracle's masks hold: classes, instances, bcss or camelyon; found from their values without it
    #[arg(long, value_name = "KIND")]
    pub(crate) truth_kind: Option<ClassCodes>,
}

/// How a dictionary is asked.
#[derive(Args, Debug)]
pub(crate) struct QueryArguments {
    /// fine (ours), or one of the paper's: direct, cluster
    #[arg(long, value_name = "METHOD", default_value = "fine")]
    pub(crate) method: Method,
    /// Level of a ResNet that maps are taken from: 2, 3 or 4
    #[arg(long, value_name = "N")]
    pub(crate) level: Option<usize>,
    /// fine: how much the nearest prototypes outweigh others, in units of their distances; less is more (0.3)
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// fine: standard deviation of the neighbourhood that decides together, in pixels (16)
    #[arg(long, value_name = "PX")]
    pub(crate) smoothing: Option<f32>,
    /// Places less sure than this are left without a class, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub(crate) least_confidence: f32,
}
