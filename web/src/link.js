// Caption and settings in the page's address, so that a link draws the same picture. What follows # stays in the
// browser. What follows ? reaches the server, and is for pages that embed this one with a caption of their own.

/** The parameters of an address: those after #, or where there are none, those after ?. */
export const readAddress = ({ search, hash }) => new URLSearchParams(hash.length > 1 ? hash.slice(1) : search);

/** The address of this page with these parameters after #; names whose value is undefined are left out. */
export function addressOf({ origin, pathname }, values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined);
  return `${origin}${pathname}#${new URLSearchParams(given)}`;
}

/** A number of the address, or `otherwise` if it is missing or not a number. */
export function numberOf(params, name, otherwise) {
  const text = params.get(name)?.trim();
  return text && Number.isFinite(Number(text)) ? Number(text) : otherwise;
}
