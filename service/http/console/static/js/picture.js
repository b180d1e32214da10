// The image as the model sees it: its centre crop, under the tokens of a stage.

const LONGEST_PX = 448;

/** Decoded and upright, or null for what this browser cannot show (the service may know it all the same). */
export async function decode(blob) {
  try {
    return await createImageBitmap(blob);
  } catch {
    return null;
  }
}

/** The square the model reads, in the picture's own pixels; see the service's preprocessing. */
function cropOf(bitmap, { resize_px, crop_px }) {
  const side = (Math.min(bitmap.width, bitmap.height) * crop_px) / resize_px;
  return { left: (bitmap.width - side) / 2, top: (bitmap.height - side) / 2, side };
}

/** The whole picture, what the model does not see of it darkened. */
export function drawWhole(canvas, bitmap, preprocessing) {
  const scale = LONGEST_PX / Math.max(bitmap.width, bitmap.height);
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  const { left, top, side } = cropOf(bitmap, preprocessing);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  context.fillStyle = "rgb(0 0 0 / 0.55)";
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.rect(left * scale, top * scale, side * scale, side * scale);
  context.fill("evenodd");
}

/** The crop at a stage's own resolution, cut into its tokens; only the tokens when there is no picture to show. */
export function drawTokens(canvas, bitmap, preprocessing, { grid, px }) {
  const context = canvas.getContext("2d");
  const size = canvas.width;
  context.clearRect(0, 0, size, size);
  if (bitmap !== null) {
    const { left, top, side } = cropOf(bitmap, preprocessing);
    const look = new OffscreenCanvas(px, px);
    const reduced = look.getContext("2d");
    reduced.imageSmoothingQuality = "high";
    reduced.drawImage(bitmap, left, top, side, side, 0, 0, px, px);
    context.imageSmoothingEnabled = px >= size;
    context.drawImage(look, 0, 0, size, size);
  }
  // White on black, so that the lines are seen on any picture.
  for (const [style, width] of [
    ["rgb(0 0 0 / 0.45)", 4],
    ["rgb(255 255 255 / 0.9)", 1.5],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.beginPath();
    for (let line = 1; line < grid; line++) {
      const at = (line * size) / grid;
      context.moveTo(at, 0);
      context.lineTo(at, size);
      context.moveTo(0, at);
      context.lineTo(size, at);
    }
    context.stroke();
  }
}
