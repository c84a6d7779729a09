/** An image that no bake can make a µVM of: trying again would end the same way until the image changes. */
export class ImageUnsuitable extends Error {
  override readonly name = 'ImageUnsuitable';
}
