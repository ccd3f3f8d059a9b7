//! Pictures (SVG) of a registration: before, deformation, after, with the distances in figures.

mod scene;

use std::fmt::Write;

use crate::distance::{DistanceError, Distances, distances, distances_with_values};
use crate::io::escaped;
use crate::shape::{Cells, Shape};
use scene::{Camera, Colour, Visible, chains, distance_colour, hex, triangles};

/// Why a picture was not drawn.
///
/// ```
/// use keops_shapes::builtin::{curve_pair, icosphere};
/// use keops_shapes::picture::{PictureError, RegistrationPicture};
/// let ((source, _), target) = (curve_pair(20)?, icosphere(0)?);
/// let picture = RegistrationPicture {
///     title: "",
///     source: &source,
///     target: &target,
///     result: &source,
///     grid: None,
///     figures: &[],
/// };
/// let e = picture.svg().unwrap_err();
/// assert_eq!(e, PictureError::Dimension { what: "target", expected: 2, got: 3 });
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// Planar and spatial shapes do not share a picture.
    #[error("the {what} must have {expected} coordinates as the source has, got {got}")]
    Dimension {
        /// Which shape: `"target"`, `"result"` or `"grid"`.
        what: &'static str,
        /// Dimension of the source.
        expected: usize,
        /// Dimension of that shape.
        got: usize,
    },
    /// The distances could not be computed.
    #[error(transparent)]
    Distance(#[from] DistanceError),
}

/// What a picture of a registration shows.
///
/// Planar shapes give three panels in one scale: source and target; the deformation (the deformed
/// grid, or the way of each vertex from the source to the result); the result coloured by its
/// distance to the target. Spatial shapes give four: source, target, result, and the result
/// coloured by distance under the contours of the target, in an orthographic view along the
/// target's principal axes.
///
/// ```
/// use keops_shapes::builtin::curve_pair;
/// use keops_shapes::picture::RegistrationPicture;
/// let (source, target) = curve_pair(40)?;
/// let middle = source.with_vertices(0.5 * &source.vertices() + 0.5 * &target.vertices())?;
/// let picture = RegistrationPicture {
///     title: "Half way",
///     source: &source,
///     target: &target,
///     result: &middle,
///     grid: None,
///     figures: &[("way", "0.5".into())],
/// };
/// assert!(picture.svg().unwrap().contains("Half way"));
/// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RegistrationPicture<'a> {
    /// Heading; may be empty.
    pub title: &'a str,
    /// The shape before.
    pub source: &'a Shape,
    /// The shape to come to.
    pub target: &'a Shape,
    /// The shape after.
    pub result: &'a Shape,
    /// Grid lines carried by the deformation, as a curve (planar pictures).
    pub grid: Option<&'a Shape>,
    /// Further lines of the legend: name and value.
    pub figures: &'a [(&'a str, String)],
}

const SOURCE: Colour = [0.28, 0.50, 0.76];
const TARGET: Colour = [0.36, 0.36, 0.38];
const RESULT: Colour = [0.90, 0.52, 0.18];

const MARGIN: f64 = 18.0;
const GAP: f64 = 16.0;
const CAPTION: f64 = 22.0;
const WIDTH: f64 = 960.0;

impl RegistrationPicture<'_> {
    /// The picture as an SVG document, 960 units wide.
    ///
    /// # Errors
    /// When the shapes are not all planar or all spatial.
    ///
    /// ```
    /// use keops_shapes::{builtin::surface_pair, picture::RegistrationPicture};
    /// let (source, target) = surface_pair(1)?;
    /// let picture = RegistrationPicture {
    ///     title: "",
    ///     source: &source,
    ///     target: &target,
    ///     result: &target,
    ///     grid: None,
    ///     figures: &[],
    /// };
    /// let svg = picture.svg().unwrap();
    /// assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    /// // In space there are four panels.
    /// assert!(svg.contains("(d) Result by distance to the target"));
    /// # Ok::<(), keops_shapes::builtin::BuiltinError>(())
    /// ```
    pub fn svg(&self) -> Result<String, PictureError> {
        let expected = self.source.dim();
        let others =
            [("target", Some(self.target)), ("result", Some(self.result)), ("grid", self.grid)];
        for (what, shape) in others {
            if let Some(got) = shape.map(Shape::dim).filter(|&got| got != expected) {
                return Err(PictureError::Dimension { what, expected, got });
            }
        }
        let before = distances(self.source, self.target)?;
        let (after, to_target) = distances_with_values(self.result, self.target)?;
        // The scale of colours ends at a round number.
        let top = round_up(to_target.iter().copied().fold(0.0, f64::max));

        let camera = Camera::facing(self.target);
        let bounds = Bounds::of(&camera, [self.source, self.target, self.result]);
        let planar = expected == 2;
        let panels = if planar { 3 } else { 4 };
        let aspect = bounds.width() / bounds.height();
        let columns = if panels == 4 && aspect > 1.35 { 2 } else { panels };
        let rows = panels / columns;
        let width = (WIDTH - 2.0 * MARGIN - (columns - 1) as f64 * GAP) / columns as f64;
        let height = (width / aspect).clamp(0.4 * width, 1.3 * width);
        let head = MARGIN + if self.title.is_empty() { 0.0 } else { 26.0 };
        let legend_top = head + rows as f64 * (CAPTION + height + GAP) + 4.0;
        let lines = 2 + self.figures.len().div_ceil(2);
        let total = legend_top + 18.0 * lines.max(3) as f64 + MARGIN;

        let mut svg = Svg { text: String::new() };
        svg.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {total:.0}\" \
             width=\"{WIDTH}\" height=\"{total:.0}\" font-family=\"Helvetica, Arial, sans-serif\" \
             font-size=\"13\" fill=\"#222\">"
        ));
        svg.line("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
        if !self.title.is_empty() {
            svg.text(MARGIN, MARGIN + 12.0, "font-size=\"16\" font-weight=\"bold\"", self.title);
        }
        for i in 0..panels {
            let frame = Frame {
                left: MARGIN + (i % columns) as f64 * (width + GAP),
                top: head + CAPTION + (i / columns) as f64 * (CAPTION + height + GAP),
                width,
                height,
                bounds: &bounds,
                camera: &camera,
            };
            let caption = if planar {
                ["Source and target", "Deformation", "Result and target"][i]
            } else {
                ["Source", "Target", "Result", "Result by distance to the target"][i]
            };
            let id = (b'a' + i as u8) as char;
            svg.text(frame.left, frame.top - 8.0, "", &format!("({id}) {caption}"));
            frame.open(&mut svg, i, planar);
            if planar {
                self.planar_panel(i, &frame, &mut svg, &to_target, top);
            } else {
                self.spatial_panel(i, &frame, &mut svg, &to_target, top);
            }
            svg.line("</g>");
            if i == 0 {
                frame.scale_bar(&mut svg);
            }
        }
        self.legend(&mut svg, legend_top, planar, top, [before, after]);
        svg.line("</svg>");
        Ok(svg.text)
    }

    fn planar_panel(
        &self,
        panel: usize,
        frame: &Frame,
        svg: &mut Svg,
        to_target: &[f64],
        top: f64,
    ) {
        match panel {
            0 => {
                frame.draw(svg, self.target, TARGET, 2.2);
                frame.draw(svg, self.source, SOURCE, 1.8);
            }
            1 => {
                let moved = self.source.vertex_count() == self.result.vertex_count();
                if let Some(grid) = self.grid {
                    frame.draw(svg, grid, [0.72, 0.74, 0.78], 0.7);
                } else if moved {
                    let (from, to) = (frame.seen(self.source), frame.seen(self.result));
                    let ways = from.iter().zip(&to).map(|(a, b)| [[a[0], a[1]], [b[0], b[1]]]);
                    svg.strokes(ways, [0.62, 0.64, 0.68], 0.7);
                }
                frame.draw(svg, self.source, SOURCE, 1.2);
                frame.draw(svg, self.result, RESULT, 2.0);
            }
            _ => {
                frame.draw(svg, self.target, TARGET, 1.0);
                frame.draw_coloured(svg, self.result, to_target, top);
            }
        }
    }

    fn spatial_panel(
        &self,
        panel: usize,
        frame: &Frame,
        svg: &mut Svg,
        to_target: &[f64],
        top: f64,
    ) {
        match panel {
            0 => frame.draw(svg, self.source, SOURCE, 1.6),
            1 => frame.draw(svg, self.target, [0.70, 0.69, 0.67], 1.6),
            2 => frame.draw(svg, self.result, RESULT, 1.6),
            _ => {
                frame.draw_coloured(svg, self.result, to_target, top);
                let faces = triangles(self.target);
                if faces.is_empty() {
                    frame.draw(svg, self.target, TARGET, 0.8);
                } else {
                    let seen = frame.seen(self.target);
                    let visible = Visible::new(&seen, faces, frame.width, frame.height);
                    svg.strokes(visible.contours(&seen, faces), [0.15, 0.15, 0.17], 0.9);
                }
            }
        }
    }

    fn legend(
        &self,
        svg: &mut Svg,
        top: f64,
        planar: bool,
        colour_top: f64,
        [before, after]: [Distances; 2],
    ) {
        let baseline = |line: usize| top + 14.0 + 18.0 * line as f64;
        let keys: &[(&str, Colour)] = if planar {
            &[("source", SOURCE), ("target", TARGET), ("result", RESULT)]
        } else {
            &[]
        };
        for (i, (name, colour)) in keys.iter().enumerate() {
            let y = baseline(i) - 4.0;
            let ends = [[MARGIN, y], [MARGIN + 22.0, y]];
            svg.strokes([ends], *colour, 2.4);
            svg.text(MARGIN + 30.0, baseline(i), "", name);
        }
        // Figures in two columns after the keys.
        let left = if planar { MARGIN + 110.0 } else { MARGIN };
        for (line, (name, d)) in [("before", before), ("after", after)].iter().enumerate() {
            let text = format!(
                "{name}: mean distance {}, Hausdorff {}",
                figure(d.mean()),
                figure(d.hausdorff())
            );
            svg.text(left, baseline(line), "", &text);
        }
        for (i, (name, value)) in self.figures.iter().enumerate() {
            let x = left + (i % 2) as f64 * 230.0;
            svg.text(x, baseline(2 + i / 2), "", &format!("{name}: {value}"));
        }
        // The scale of colours.
        let (x, y, width) = (WIDTH - MARGIN - 260.0, top + 4.0, 240.0);
        let steps = 48;
        for i in 0..steps {
            let t = (i as f64 + 0.5) / steps as f64;
            // A little wider than its share, so that no gap shows between neighbours.
            svg.line(&format!(
                "<rect x=\"{:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"10\" fill=\"{}\"/>",
                x + width * i as f64 / steps as f64,
                width / steps as f64 + if i + 1 < steps { 0.4 } else { 0.0 },
                hex(distance_colour(t))
            ));
        }
        let middle = "text-anchor=\"middle\" font-size=\"11\"";
        for k in 0..=2 {
            let t = f64::from(k) / 2.0;
            svg.text(x + width * t, y + 23.0, middle, &short(colour_top * t));
        }
        svg.text(x + 0.5 * width, y + 39.0, middle, "distance to the target");
    }
}

/// What all shapes of a picture span, as the camera sees them.
struct Bounds {
    low: [f64; 2],
    high: [f64; 2],
}

impl Bounds {
    fn of(camera: &Camera, shapes: [&Shape; 3]) -> Bounds {
        let mut bounds = Bounds { low: [f64::INFINITY; 2], high: [f64::NEG_INFINITY; 2] };
        for shape in shapes {
            for i in 0..shape.vertex_count() {
                let p = camera.see(shape.point(i));
                for (k, &x) in p[..2].iter().enumerate() {
                    bounds.low[k] = bounds.low[k].min(x);
                    bounds.high[k] = bounds.high[k].max(x);
                }
            }
        }
        // Room around, and something to show when everything is in one point or line.
        let largest = (bounds.high[0] - bounds.low[0]).max(bounds.high[1] - bounds.low[1]);
        let pad = if largest > 0.0 { 0.05 * largest } else { 1.0 };
        for k in 0..2 {
            bounds.low[k] -= pad;
            bounds.high[k] += pad;
        }
        bounds
    }

    fn width(&self) -> f64 {
        self.high[0] - self.low[0]
    }

    fn height(&self) -> f64 {
        self.high[1] - self.low[1]
    }
}

/// A panel of the picture.
struct Frame<'a> {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    bounds: &'a Bounds,
    camera: &'a Camera,
}

impl Frame<'_> {
    fn scale(&self) -> f64 {
        (self.width / self.bounds.width()).min(self.height / self.bounds.height())
    }

    /// Vertices in the panel: x, y downwards, depth, all in units of the picture.
    fn seen(&self, shape: &Shape) -> Vec<[f64; 3]> {
        let (s, b) = (self.scale(), self.bounds);
        let middle = [0, 1].map(|k| 0.5 * b.low[k] + 0.5 * b.high[k]);
        (0..shape.vertex_count())
            .map(|i| {
                let [x, y, z] = self.camera.see(shape.point(i));
                let (x, y) = (s * (x - middle[0]), s * (y - middle[1]));
                [0.5 * self.width + x, 0.5 * self.height - y, s * z]
            })
            .collect()
    }

    /// Begins the group of the panel, cut at its border.
    fn open(&self, svg: &mut Svg, panel: usize, bordered: bool) {
        let (x, y, w, h) = (self.left, self.top, self.width, self.height);
        if bordered {
            svg.line(&format!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" \
                 fill=\"none\" stroke=\"#ccc\"/>"
            ));
        }
        svg.line(&format!(
            "<clipPath id=\"panel{panel}\"><rect width=\"{w:.1}\" height=\"{h:.1}\"/></clipPath>"
        ));
        svg.line(&format!(
            "<g transform=\"translate({x:.1} {y:.1})\" clip-path=\"url(#panel{panel})\" \
             stroke-linejoin=\"round\" stroke-linecap=\"round\">"
        ));
    }

    /// A bar with a round length in the units of the shapes, at the lower left.
    fn scale_bar(&self, svg: &mut Svg) {
        let length = round_down(0.22 * self.width / self.scale());
        let (x, y) = (self.left + 10.0, self.top + self.height - 10.0);
        svg.strokes([[[x, y], [x + length * self.scale(), y]]], [0.13; 3], 1.4);
        svg.text(x, y - 5.0, "font-size=\"11\"", &short(length));
    }

    fn draw(&self, svg: &mut Svg, shape: &Shape, colour: Colour, stroke: f64) {
        let seen = self.seen(shape);
        match shape.cells() {
            Cells::Points => svg.dots(seen.iter().map(|p| ([p[0], p[1]], colour)), stroke),
            Cells::Segments(segments) => {
                let mut d = String::new();
                for path in chains(segments) {
                    for (i, &k) in path.iter().enumerate() {
                        push_point(
                            &mut d,
                            if i == 0 { 'M' } else { 'L' },
                            [seen[k][0], seen[k][1]],
                        );
                    }
                }
                svg.path(&d, colour, stroke);
            }
            Cells::Triangles(faces) => self.paint(svg, &seen, faces, 1.0, |_| colour),
        }
    }

    /// A shape whose cells have the colour of the mean of their corners' values, from 0 to `top`.
    fn draw_coloured(&self, svg: &mut Svg, shape: &Shape, values: &[f64], top: f64) {
        let colour = |corners: &[usize]| {
            let mean = corners.iter().map(|&k| values[k]).sum::<f64>() / corners.len() as f64;
            distance_colour(mean / top)
        };
        let seen = self.seen(shape);
        match shape.cells() {
            Cells::Points => {
                let dots = seen.iter().enumerate().map(|(k, p)| ([p[0], p[1]], colour(&[k])));
                svg.dots(dots, 2.4);
            }
            Cells::Segments(segments) => {
                for s in segments {
                    let ends = s.map(|k| [seen[k][0], seen[k][1]]);
                    svg.strokes([ends], colour(s), 3.0);
                }
            }
            // Weak shading, so that the colours can be read.
            Cells::Triangles(faces) => self.paint(svg, &seen, faces, 0.4, |i| colour(&faces[i])),
        }
    }

    /// Visible faces from far to near, shaded by `depth` times the full shading.
    fn paint(
        &self,
        svg: &mut Svg,
        seen: &[[f64; 3]],
        faces: &[[usize; 3]],
        depth: f64,
        colour: impl Fn(usize) -> Colour,
    ) {
        let visible = Visible::new(seen, faces, self.width, self.height);
        // Large faces show their edges; small ones are outlined in their own colour, which closes
        // the hair lines that renderers leave between neighbours.
        let doubled: f64 = visible
            .faces
            .iter()
            .map(|f| {
                let [a, b, c] = f.corners;
                ((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])).abs()
            })
            .sum();
        let edges = 0.5 * doubled / visible.faces.len().max(1) as f64 > 14.0;
        svg.line("<g stroke-width=\"0.5\">");
        for face in &visible.faces {
            let shaded = colour(face.cell).map(|x| x * (1.0 - depth * (1.0 - face.light)));
            let outline = if edges { shaded.map(|x| 0.86 * x) } else { shaded };
            let mut d = String::new();
            for (i, p) in face.corners.iter().enumerate() {
                push_point(&mut d, if i == 0 { 'M' } else { 'L' }, *p);
            }
            let (fill, line) = (hex(shaded), hex(outline));
            svg.line(&format!("<path d=\"{d}Z\" fill=\"{fill}\" stroke=\"{line}\"/>"));
        }
        svg.line("</g>");
    }
}

fn push_point(d: &mut String, mark: char, p: [f64; 2]) {
    // Writing to a string cannot fail.
    let _ = write!(d, "{mark}{:.1} {:.1}", p[0], p[1]);
}

struct Svg {
    text: String,
}

impl Svg {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let text = escaped(text);
        self.line(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>"));
    }

    fn path(&mut self, d: &str, colour: Colour, width: f64) {
        let colour = hex(colour);
        self.line(&format!(
            "<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        ));
    }

    fn strokes(
        &mut self,
        lines: impl IntoIterator<Item = [[f64; 2]; 2]>,
        colour: Colour,
        width: f64,
    ) {
        let mut d = String::new();
        for [a, b] in lines {
            push_point(&mut d, 'M', a);
            push_point(&mut d, 'L', b);
        }
        self.path(&d, colour, width);
    }

    fn dots(&mut self, dots: impl Iterator<Item = ([f64; 2], Colour)>, radius: f64) {
        for ([x, y], colour) in dots {
            let fill = hex(colour);
            self.line(&format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\"/>"
            ));
        }
    }
}

/// Three significant digits, without an exponent where that is short.
fn figure(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let exponent = x.abs().log10().floor();
    if !(-4.0..6.0).contains(&exponent) {
        return format!("{x:.2e}");
    }
    let decimals = (2.0 - exponent).max(0.0) as usize;
    format!("{x:.decimals$}")
}

/// As [`figure`], without zeros at the end of a fraction.
fn short(x: f64) -> String {
    let text = figure(x);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

/// The largest of 1, 2, 5 times a power of ten that is at most `x` > 0.
fn round_down(x: f64) -> f64 {
    let power = 10f64.powf(x.log10().floor());
    // The quotient is between 1 and 10 up to rounding.
    let step = [5.0, 2.0].into_iter().find(|s| s * power <= x).unwrap_or(1.0);
    step * power
}

/// The smallest of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten that is at least `x`; 1 for 0.
fn round_up(x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(x.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0];
    steps.into_iter().find(|s| s * power >= x).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    fn picture<'a>(
        source: &'a Shape,
        target: &'a Shape,
        result: &'a Shape,
    ) -> RegistrationPicture<'a> {
        RegistrationPicture { title: "a < b", source, target, result, grid: None, figures: &[] }
    }

    /// Every opened element is closed in order, attributes are quoted, numbers are finite.
    fn check(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a closed tag");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.split([' ', '/']).find(|s| !s.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf\""));
    }

    #[test]
    fn planar_pictures_hold_what_they_promise() {
        let (source, target) = builtin::curve_pair(40).unwrap();
        let svg = picture(&source, &target, &target).svg().unwrap();
        check(&svg);
        assert!(svg.contains("a &lt; b") && svg.contains("(c) Result and target"));
        assert!(svg.contains("after: mean distance 0, Hausdorff 0"));
        let before = distances(&source, &target).unwrap();
        assert!(svg.contains(&format!("Hausdorff {}", figure(before.hausdorff()))));
        // The result is drawn segment by segment in colours.
        assert_eq!(svg.matches("stroke-width=\"3\"").count(), 40);
    }

    #[test]
    fn spatial_pictures_hold_what_they_promise() {
        let (source, target) = builtin::surface_pair(2).unwrap();
        let figures = [("H drift", "1e-6".to_string())];
        let p = RegistrationPicture { figures: &figures, ..picture(&source, &target, &source) };
        let svg = p.svg().unwrap();
        check(&svg);
        assert!(svg.contains("(d) Result by distance to the target"));
        assert!(svg.contains("H drift: 1e-6"));
        // A convex closed surface of 320 faces shows about half of them.
        let faces = svg.matches("Z\" fill").count();
        assert!((400..900).contains(&faces), "{faces}");
    }

    #[test]
    fn unusual_shapes_are_drawn() {
        let one = Shape::new(ndarray::array![[3.0, 4.0]], Cells::Points).unwrap();
        check(&picture(&one, &one, &one).svg().unwrap());
        let far = Shape::new(ndarray::array![[1e50, 0.0, 0.0], [0.0, -1e50, 1e-9]], Cells::Points);
        let far = far.unwrap();
        check(&picture(&far, &far, &far).svg().unwrap());
        let (curve, _) = builtin::curve_pair(5).unwrap();
        let spatial = curve.to_spatial().unwrap();
        check(&picture(&spatial, &far, &spatial).svg().unwrap());
        let error = picture(&curve, &one, &spatial).svg().unwrap_err();
        assert_eq!(error, PictureError::Dimension { what: "result", expected: 2, got: 3 });
    }

    #[test]
    fn figures_and_round_numbers() {
        for (x, text) in [
            (0.0, "0"),
            (12.11, "12.1"),
            (1.6, "1.60"),
            (1234.5, "1234"),
            (0.000123456, "0.000123"),
            (1e-9, "1.00e-9"),
            (50.0, "50.0"),
        ] {
            assert_eq!(figure(x), text);
        }
        assert_eq!(
            (short(50.0), short(1.60), short(1e-9)),
            ("50".into(), "1.6".into(), "1.00e-9".into())
        );
        assert_eq!(short(2000.0), "2000");
        for (x, down, up) in
            [(1.0, 1.0, 1.0), (7.3, 5.0, 8.0), (0.032, 0.02, 0.04), (99.0, 50.0, 100.0)]
        {
            assert!((round_down(x) / down - 1.0).abs() < 1e-12, "{x}");
            assert!((round_up(x) / up - 1.0).abs() < 1e-12, "{x}");
        }
        assert_eq!(round_up(0.0), 1.0);
    }
}
