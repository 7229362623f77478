//! What can be asked for on the command line.

mod tissue;

pub(crate) use tissue::{ProjectCommands, QueryArguments, TissueCommands};

use clap::{ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use microtome::export::pyramid::PixelKind;
use microtome::nuclei::config::{KEYS, Key};
use microtome::nuclei::slide::maps::MapFormat;
use microtome::nuclei::slide::segment::{SlideRequest, TILE_PX};
use microtome::truth::class_mask::ClassCodes;
use std::path::PathBuf;

/// Nuclei and tissues out of H&E pictures, with almost no labels.
#[derive(Debug, Parser)]
#[command(name = "microtome", version, after_help = crate::exit::MEANINGS)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Commands,
    /// Threads that work; all cores without it. Results do not depend on it
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Memory that a size written in a file may claim, in GiB
    #[arg(long, global = true, value_name = "GIB", default_value_t = 4.0)]
    pub(crate) memory_gib: f64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Commands {
    /// Cut nuclei out of pictures that come with the program, and score them: two minutes to see it work
    Demo {
        /// Folder for the results
        #[arg(long, value_name = "DIR", default_value = "microtome-demo")]
        out: PathBuf,
    },
    /// Nuclei out of pictures, without labels
    #[command(subcommand)]
    Nuclei(Nuclei),
    /// Whole slides: what their files hold, and pictures of them
    #[command(subcommand)]
    Slide(SlideCommands),
    /// A folder for slides and what is decided about them
    #[command(subcommand)]
    Project(ProjectCommands),
    /// Classes of tissue, from a few dozen names of what looks alike
    #[command(subcommand)]
    Tissue(TissueCommands),
    /// Score results against what people drew
    Evaluate {
        /// What is scored: nuclei, or classes of tissue
        #[arg(long, value_name = "TASK", value_enum, default_value_t = Task::Nuclei)]
        task: Task,
        /// Folder of a run or a query, or of its label maps or masks
        #[arg(long, value_name = "DIR")]
        predicted: PathBuf,
        /// Folder of truths: instance or mask PNG, ImageScope XML, MATLAB inst_map, or the TNBC layout; for tissue masks
        #[arg(long, value_name = "DIR")]
        truth: PathBuf,
        /// What masks of tissue hold: classes, instances, bcss or camelyon; found from their values without it
        #[arg(long, value_name = "KIND")]
        truth_kind: Option<ClassCodes>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Folder for pictures of the errors (found, missed, false)
        #[arg(long, value_name = "DIR")]
        errors: Option<PathBuf>,
    },
    /// Show what this machine has, and what each absence costs
    Doctor,
}

/// What is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Task {
    Nuclei,
    Tissue,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SlideCommands {
    /// Levels, resolution, and the pictures beside them
    Info {
        /// The slide's file: Aperio SVS, OME-TIFF or another TIFF, DICOM (or its folder), or what OpenSlide reads
        #[arg(value_name = "SLIDE")]
        slide: PathBuf,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// A rectangle of a level as PNG; white where the slide has no pixels
    Region {
        /// The slide's file
        #[arg(value_name = "SLIDE")]
        slide: PathBuf,
        /// Level, from 0
        #[arg(long, value_name = "N", default_value_t = 0)]
        level: usize,
        /// Left edge, in pixels of level 0
        #[arg(long, value_name = "PX", allow_negative_numbers = true)]
        x: i64,
        /// Top edge, in pixels of level 0
        #[arg(long, value_name = "PX", allow_negative_numbers = true)]
        y: i64,
        /// Width, in pixels of the level
        #[arg(long, value_name = "PX")]
        width: u32,
        /// Height, in pixels of the level
        #[arg(long, value_name = "PX")]
        height: u32,
        /// The PNG file, to be written
        #[arg(long, value_name = "PNG")]
        out: PathBuf,
    },
    /// The whole slide as a small PNG
    Thumbnail {
        /// The slide's file
        #[arg(value_name = "SLIDE")]
        slide: PathBuf,
        /// Longer side, in pixels
        #[arg(long, value_name = "PX", default_value_t = 1024)]
        longest: usize,
        /// The PNG file, to be written
        #[arg(long, value_name = "PNG")]
        out: PathBuf,
    },
    /// A picture beside the levels, such as label or macro, as PNG; `slide info` names them
    Associated {
        /// The slide's file
        #[arg(value_name = "SLIDE")]
        slide: PathBuf,
        /// Its name
        #[arg(long, value_name = "NAME")]
        name: String,
        /// The PNG file, to be written
        #[arg(long, value_name = "PNG")]
        out: PathBuf,
    },
    /// The tissue as small pictures (PNG) of one resolution, with a list of where each lies
    Tiles {
        /// The slide's file
        #[arg(value_name = "SLIDE")]
        slide: PathBuf,
        /// Folder for the tiles
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Side of a tile, in pixels
        #[arg(long, value_name = "PX", default_value_t = 256)]
        side: usize,
        /// Pixels that neighbours share
        #[arg(long, value_name = "PX", default_value_t = 0)]
        overlap: usize,
        /// Resolution of the tiles, in µm per pixel; that of level 0 without it
        #[arg(long, value_name = "UM")]
        mpp: Option<f64>,
        /// Resolution of level 0, over what the file says
        #[arg(long, value_name = "UM")]
        mpp_of_level0: Option<f64>,
        /// Share of tissue that a tile has at least
        #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
        tissue: f64,
        #[command(flatten)]
        own: OwnTissueArgument,
    },
    /// The slide as a pyramid that QuPath, napari and OpenSlide open: BigTIFF, or OME-TIFF
    Convert {
        /// The slide's file, or a picture's
        #[arg(value_name = "SLIDE")]
        slide: PathBuf,
        /// The file to be written: OME-TIFF if its name ends in .ome.tif
        #[arg(long, value_name = "TIFF")]
        out: PathBuf,
        /// Resolution of level 0, in µm per pixel, over what the file says
        #[arg(long, value_name = "UM")]
        mpp: Option<f64>,
        #[command(flatten)]
        quality: Quality,
    },
    /// A slide of any size made of pictures, to try things on; beside it a list of where each picture lies
    Synth {
        /// Pictures: files, folders or globs
        #[arg(required = true, value_name = "PICTURES")]
        pictures: Vec<PathBuf>,
        /// The file to be written: OME-TIFF if its name ends in .ome.tif
        #[arg(long, value_name = "TIFF")]
        out: PathBuf,
        /// Width, in pixels
        #[arg(long, value_name = "PX")]
        width: u32,
        /// Height, in pixels
        #[arg(long, value_name = "PX")]
        height: u32,
        /// Share of the places that hold a picture; the others are glass
        #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
        filled: f64,
        /// Resolution of level 0, in µm per pixel, over what the pictures say
        #[arg(long, value_name = "UM")]
        mpp: Option<f64>,
        /// Decides which picture comes where
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
        #[command(flatten)]
        quality: Quality,
    },
}

/// A person's own tissue.
#[derive(Args, Debug)]
pub(crate) struct OwnTissueArgument {
    /// Where slides are worked on: a mask (PNG or TIFF, bright is tissue), outlines (GeoJSON in pixels of level 0), or a folder
    /// with one for each slide; tissue is looked for without it
    #[arg(long, value_name = "PATH")]
    pub(crate) tissue_mask: Option<PathBuf>,
}

/// How the pixels of a slide that is written are kept.
#[derive(Args, Debug)]
pub(crate) struct Quality {
    /// Quality of JPEG, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Keep every pixel as it is (zlib), in about five times the space
    #[arg(long, conflicts_with = "quality")]
    lossless: bool,
}

impl Quality {
    pub(crate) fn kind(&self) -> PixelKind {
        if self.lossless { PixelKind::Rgb } else { PixelKind::RgbJpeg(self.quality) }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Nuclei {
    /// Learn from pictures and segment them
    Run {
        /// Pictures: files, folders or globs
        #[arg(required = true, value_name = "PICTURES")]
        pictures: Vec<PathBuf>,
        /// Folder for the results; the same command again goes on where it stopped
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// best (stain and network together), contrastive (the paper's) or stain (no learning)
        #[arg(long, value_name = "METHOD")]
        method: Option<String>,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        slides: SlideArguments,
        #[command(flatten)]
        values: Values,
    },
    /// Learn from pictures and write a model
    Train {
        /// Pictures: files, folders or globs
        #[arg(required = true, value_name = "PICTURES")]
        pictures: Vec<PathBuf>,
        /// The model's file, to be written
        #[arg(long, value_name = "FILE")]
        model: PathBuf,
        /// best (stain and network together) or contrastive (the paper's)
        #[arg(long, value_name = "METHOD")]
        method: Option<String>,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        values: Values,
    },
    /// Apply a model to pictures
    Segment {
        /// Pictures: files, folders or globs
        #[arg(required = true, value_name = "PICTURES")]
        pictures: Vec<PathBuf>,
        /// The model's file
        #[arg(long, value_name = "FILE")]
        model: PathBuf,
        /// Folder for the results; the same command again goes on where it stopped
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Resolution of all pictures, in µm per pixel, over what their files say
        #[arg(long, value_name = "UM")]
        mpp: Option<f64>,
        #[command(flatten)]
        own: OwnTissueArgument,
        #[command(flatten)]
        slides: SlideArguments,
    },
    /// Print all values with their defaults, as a config file
    Config,
}

/// How whole slides are worked on.
#[derive(Args, Debug)]
pub(crate) struct SlideArguments {
    /// Label and confidence maps of whole slides: zarr (Python, napari), tiff (QuPath, Fiji) or none
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = MapsName::Zarr, hide_possible_values = true)]
    maps: MapsName,
    /// Side of the tiles that whole slides are worked on in; smaller ones need less memory and more time
    #[arg(long, value_name = "PX", default_value_t = TILE_PX)]
    tile_px: usize,
    /// Compress the outlines of whole slides: .geojson.gz
    #[arg(long)]
    gzip: bool,
}

impl SlideArguments {
    pub(crate) fn request(&self) -> microtome::Result<SlideRequest> {
        SlideRequest::new(self.maps.format(), self.tile_px, self.gzip)
    }
}

/// As what label and confidence maps of slides are written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum MapsName {
    Zarr,
    Tiff,
    None,
}

impl MapsName {
    fn format(self) -> MapFormat {
        match self {
            Self::Zarr => MapFormat::Zarr,
            Self::Tiff => MapFormat::Tiff,
            Self::None => MapFormat::None,
        }
    }
}

/// What training commands have in common.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Fixes everything that chance decides
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Resolution of all pictures, in µm per pixel, over what their files say
    #[arg(long, value_name = "UM", allow_negative_numbers = true)]
    pub(crate) mpp: Option<f64>,
    /// TOML file of values; `microtome nuclei config` prints one
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) own: OwnTissueArgument,
}

/// One flag for each key of the config, made from the list of keys: `contrastive.crop_px` is `--contrastive-crop-px`.
#[derive(Debug)]
pub(crate) struct Values(pub(crate) Vec<(String, String)>);

/// All keys that get a flag here; the method has its own.
fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.path.contains('.'))
}

fn flag(key: &Key) -> String {
    key.path.replace(['.', '_'], "-")
}

impl FromArgMatches for Values {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = keys().filter_map(|key| {
            let value = matches.get_one::<String>(key.path)?;
            Some((key.path.to_owned(), value.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Values {
    fn augment_args(command: Command) -> Command {
        keys().fold(command, |command, key| {
            let arg = clap::Arg::new(key.path).long(flag(key)).help(key.meaning).value_name("VALUE");
            let arg = arg.help_heading("Values (also keys of --config)").allow_negative_numbers(true);
            command.arg(arg.hide_short_help(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_are_consistent() {
        <super::Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
