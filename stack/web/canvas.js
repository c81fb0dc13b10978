// What every drawing needs: a canvas as sharp as the screen, and the colours of the style sheet.

export function fit(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

export const token = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();
export const calm = matchMedia("(prefers-reduced-motion: reduce)");
